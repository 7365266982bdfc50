"""Rows that hold a phrase of a list of the user's."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DataError
from ..files import check_contents


@dataclass(frozen=True)
class Blocklist:
    """Drops a text ("blocklist") in which one of the phrases stands, upper and lower case alike.

    Where a phrase begins or ends in an ASCII letter or digit, a word must begin or end there too: "ass" is not in
    "class". In Chinese, where no spaces part the words, the phrase counts anywhere.
    """

    phrases: tuple[str, ...]

    @classmethod
    def from_file(cls, path: str) -> "Blocklist":
        """Reads a UTF-8 file of one phrase a line; empty lines do not count.

        Raises:
            DataError: if it cannot be read, is not UTF-8 or holds no phrase.
        """
        try:
            check_contents([path], is_text=True)
        except DataError as error:
            raise DataError(f"blocklist {error}") from error
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        phrases = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not phrases:
            raise DataError(f"blocklist {path} holds no phrase, expected one a line.")
        return cls(phrases)

    @cached_property
    def _pattern(self) -> re.Pattern:
        return re.compile("|".join(map(_bounded, sorted(self.phrases, key=len, reverse=True))), re.IGNORECASE)

    def __call__(self, text: str) -> str | None:
        return "blocklist" if self._pattern.search(text) else None


def _bounded(phrase: str) -> str:
    before = r"(?<![A-Za-z0-9])" if re.match(r"[A-Za-z0-9]", phrase) else ""
    after = r"(?![A-Za-z0-9])" if re.search(r"[A-Za-z0-9]$", phrase) else ""
    return f"{before}{re.escape(phrase)}{after}"
