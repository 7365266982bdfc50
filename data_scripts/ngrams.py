"""Character n-grams of many texts as 64-bit hashes, computed with numpy."""

from collections.abc import Sequence

import numpy as np

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def ngram_hashes(texts: Sequence[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hashes (G,) uint64 of all n-grams of all texts and the bounds (R + 1,) of each text's own.

    A text shorter than n has one hash, that of the whole text; an empty text too. Equal n-grams have equal hashes on
    every machine; different ones have with a chance of 2**-64.
    """
    padded = [text.ljust(n, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    lengths = np.array([len(text) for text in padded])
    if not len(codes):
        return np.zeros(0, dtype=np.uint64), np.zeros(1, dtype=np.int64)
    hashes, width = codes, 1
    while width < n:  # two n-grams that overlap or meet make up a wider one
        step = min(width, n - width)
        hashes = (hashes[:-step] * _FACTOR ^ hashes[step:]) * _FACTOR
        hashes ^= hashes >> _SHIFT
        width += step
    counts = lengths - n + 1
    # an n-gram that reaches over the end of its text belongs to none
    within = np.arange(counts.sum()) + np.repeat(np.cumsum(lengths) - lengths - np.cumsum(counts) + counts, counts)
    return hashes[within], np.concatenate([[0], np.cumsum(counts)])
