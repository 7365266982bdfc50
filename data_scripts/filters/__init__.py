"""Rules by which a row of text is kept or dropped, one a file.

A rule is a frozen dataclass of thresholds that is called with a cleaned text: None keeps it, a string is the reason
for dropping it. Thresholds count characters, not words between spaces, so that they mean the same in Chinese.
"""

from collections.abc import Callable, Sequence

from .blocklist import Blocklist
from .boilerplate import Boilerplate
from .characters import Characters
from .language import Language
from .length import Length
from .repetition import Repetition

Rule = Callable[[str], str | None]

__all__ = ["Blocklist", "Boilerplate", "Characters", "Language", "Length", "Repetition", "Rule", "judge"]


def judge(text: str, rules: Sequence[Rule]) -> str | None:
    """The reason of the first rule that drops the text, None if all keep it."""
    return next((reason for rule in rules if (reason := rule(text))), None)
