"""Rows that consist of symbols and digits more than of letters."""

from dataclasses import dataclass

import regex

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_DIGITS = regex.compile(r"\p{Nd}+")
_SPACES = regex.compile(r"\s+")
_HASHES_AND_DOTS = regex.compile(r"#|…+|\.{3,}")


@dataclass(frozen=True)
class Characters:
    """Drops a text by shares of its characters, white space not counted.

    Attributes:
        min_letters: least share of letters, Han characters and combining marks ("few_letters"). Gopher wants letters
            in 80 % of the words (Rae et al. 2021, table A1); Chinese verse is a fifth punctuation, hence less.
        max_digits: most share of digits ("digits"): tables and logs.
        max_hashes: most hash signs and ellipses for each character ("symbols"). Gopher: 0.1 for each word, which is
            0.02 for each character of English and 0.06 of Chinese.
        least: shorter texts are not judged: their shares mean nothing.
    """

    min_letters: float = 0.5
    max_digits: float = 0.3
    max_hashes: float = 0.05
    least: int = 20

    def __call__(self, text: str) -> str | None:
        total = len(text) - _count(_SPACES, text)
        if total < self.least:
            return None
        if len(_HASHES_AND_DOTS.findall(text)) > self.max_hashes * total:
            return "symbols"
        if _count(_DIGITS, text) > self.max_digits * total:
            return "digits"
        if _count(_LETTERS, text) < self.min_letters * total:
            return "few_letters"
        return None


def _count(pattern: regex.Pattern, text: str) -> int:
    """Characters within the matches of a pattern."""
    return sum(map(len, pattern.findall(text)))
