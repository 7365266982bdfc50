"""Rows that hold a phrase of a list of the user's."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DataError
from ..files import check_contents

_WORD = re.compile(r"[a-z0-9]+")
_WORD_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
# Small letters that have their capital in common with another, as in `re.IGNORECASE`.
_TWINS = str.maketrans(
    "\u0131\u017f\u03bc\u03b9\u1fbe\u1fd3\u1fe3\u03d0\u03f5\u03d1\u03f0\u03d6\u03f1\u03c3\u03d5"
    "\u1c80\u1c81\u1c82\u1c83\u1c84\u1c85\u1c86\u1c87\ua64b\u1e9b\ufb06",
    "is\u00b5\u0345\u0345\u0390\u03b0\u03b2\u03b5\u03b8\u03ba\u03c0\u03c1\u03c2\u03c6"
    "\u0432\u0434\u043e\u0441\u0442\u0442\u044a\u0463\u1c88\u1e61\ufb05",
)


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
    def _candidates(self) -> dict[str, list[str]]:
        """The phrases by what a text must have for them: the longest ASCII word of a phrase, else its beginning.

        The ASCII words of a phrase are whole words of the text too, its first two characters are two of the text's.
        """
        candidates = defaultdict(list)
        for phrase in map(_fold, self.phrases):
            candidates[max(_WORD.findall(phrase), key=len, default=phrase[:2])].append(phrase)
        return dict(candidates)

    @cached_property
    def _beginnings(self) -> re.Pattern | None:
        """The characters with which phrases without an ASCII word begin."""
        characters = {part[0] for part in self._candidates if not _WORD.match(part)}
        return re.compile(f"[{re.escape(''.join(sorted(characters)))}]") if characters else None

    def __call__(self, text: str) -> str | None:
        text = _fold(text)
        parts = set(_WORD.findall(text))
        if self._beginnings:
            places = [match.start() for match in self._beginnings.finditer(text)]
            parts.update([text[place : place + 2] for place in places], [text[place] for place in places])
        candidates = self._candidates
        found = any(_stands_in(phrase, text) for part in parts & candidates.keys() for phrase in candidates[part])
        return "blocklist" if found else None


def _fold(text: str) -> str:
    """The text with a character for each of its own, the same for upper and lower case."""
    text = text.replace("\u0130", "i").lower()  # of all capitals this alone would become two characters
    return text if text.isascii() else text.translate(_TWINS)


def _stands_in(phrase: str, text: str) -> bool:
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        begins = phrase[0] not in _WORD_CHARACTERS or text[start - 1 : start] not in _WORD_CHARACTERS
        if begins and (phrase[-1] not in _WORD_CHARACTERS or text[end : end + 1] not in _WORD_CHARACTERS):
            return True
        start = text.find(phrase, start + 1)
    return False
