"""Rows that say the same over and over."""

from dataclasses import dataclass

import numpy as np
import regex

from ..ngrams import ngram_hashes

_HAN_LIKE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+")


@dataclass(frozen=True)
class Repetition:
    """Drops a text by the share of its characters that repeat what stood before.

    Attributes:
        max_line_share: most characters in lines that occurred before ("repeated_lines"). Gopher: 0.2 (Rae et al.
            2021, table A1, duplicate line character fraction).
        max_ngram_share: most characters in n-grams that occurred before ("repeated_ngrams"). Gopher: 0.1 for 10-grams
            of words. Both are 0.3 here, because verse and tales repeat on purpose.
        n, n_han: characters that stand for ten words: 50, and 16 where most of the text is Han, kana or Hangul.
        least: shorter texts are not judged.
    """

    max_line_share: float = 0.3
    max_ngram_share: float = 0.3
    n: int = 50
    n_han: int = 16
    least: int = 200

    def __call__(self, text: str) -> str | None:
        if len(text) < self.least:
            return None
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        total = sum(map(len, lines))
        if total - sum(map(len, set(lines))) > self.max_line_share * total:
            return "repeated_lines"
        head = text[:2000]
        n = self.n_han if 2 * sum(map(len, _HAN_LIKE.findall(head))) > len(head) else self.n
        if self._repeated(text, n) > self.max_ngram_share * len(text):
            return "repeated_ngrams"
        return None

    @staticmethod
    def _repeated(text: str, n: int) -> int:
        """Characters covered by n-grams of which an equal one begins further left."""
        hashes, _ = ngram_hashes([text], n)
        ordered = np.sort(hashes)
        if (ordered[1:] != ordered[:-1]).all():  # as in most texts
            return 0
        _, first = np.unique(hashes, return_index=True)
        repeats = np.ones(len(hashes), dtype=bool)
        repeats[first] = False
        edges = np.zeros(len(text) + 1, dtype=np.int32)
        starts = np.flatnonzero(repeats)
        np.add.at(edges, starts, 1)
        np.add.at(edges, starts + n, -1)
        return int((np.cumsum(edges[:-1]) > 0).sum())
