"""Copies among the rows: exact ones by a hash, near ones by MinHash (rensa) and locality-sensitive hashing.

    marked = dataset.map(mark_batch, batched=True, remove_columns=["text"])
    groups = group_exact(fingerprints_of(marked["fingerprint"]))
    groups = group_near(signatures, lengths, groups)  # rows of equal number are copies of each other

Nothing here is random and no result depends on the number of processes. An index over N rows holds about 64 bytes a
row in memory (measured: docs/data.md); the signatures, 1,024 bytes a row, may lie in a memory-mapped file.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from rensa import RMinHash
from tqdm.auto import tqdm

from .mapping import BAR_DELAY
from .ngrams import ngram_hashes

NGRAM = 5  # characters; GPT-3 and RefinedWeb take 5 words, of which five characters are the counterpart in Chinese
PERMUTATIONS = 256
# of 4 values each: a pair of Jaccard similarity 0.5 is looked at with a chance of 0.984, of 0.6 with 0.9999
BANDS = 64
# Least estimated similarity of near copies. A text with 5 % of its characters edited has 0.63 to the first, down to
# 0.47 where it repeats itself; the standard error of the estimate is 0.03.
THRESHOLD = 0.45
# UTF-8 bytes (67 Chinese characters) of a normal form from which on a row can be a near copy. Shorter ones share most
# of their 5-grams without being copies: headings with running numbers, lines of dialogue, notes of another year.
SHORTEST = 200
# Least share that the shorter of two near copies is of the longer one, in characters of their normal forms. 5 % of
# edits make a text at most 5 % longer or shorter; one with more than a tenth more says something else.
LENGTH_SHARE = 0.9
_SEED = 20_240_917  # of the permutations; part of what a signature means
_ROUNDS = 16
_PAIRS = 1 << 14  # compared at a time


def normal_form(text: str) -> str:
    """The text as copies are compared: compatibility characters folded, white space as single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def fingerprint(text: str) -> int:
    """64 bits that are equal for texts of equal normal form (two others agree with a chance of 2**-64)."""
    return _hash(normal_form(text))


def signatures(texts: Sequence[str]) -> np.ndarray:
    """MinHash signatures (R, 256) uint32 of the texts' sets of character 5-grams (Broder 1997).

    The share of equal values of two rows estimates the Jaccard similarity of the sets. A text whose normal form is
    shorter than `SHORTEST` bytes is one element by itself, so that it is like its equals alone.
    """
    return _sign([normal_form(text) for text in texts])


def mark_batch(batch: dict, near: bool = True) -> dict:
    """For `datasets.map(batched=True)` on "text": "fingerprint" (int64) and, if `near`, "signature" and "length".

    A signature is a row of `signatures` as 1,024 bytes, a length counts the characters of the normal form.
    """
    forms = [normal_form(text) for text in batch["text"]]
    marks = {"fingerprint": [_hash(form) for form in forms]}
    if near:
        marks["signature"] = [row.tobytes() for row in _sign(forms)]
        marks["length"] = list(map(len, forms))
    return marks


def group_exact(fingerprints: np.ndarray) -> np.ndarray:
    """For each row (N,) the number of the first row of equal fingerprint, int64."""
    _, first, inverse = np.unique(fingerprints, return_index=True, return_inverse=True)
    return first[inverse]


def group_near(
    rows: np.ndarray, lengths: np.ndarray, groups: np.ndarray | None = None, threshold: float = THRESHOLD
) -> np.ndarray:
    """Joins groups whose first rows are near copies of each other, by a chain of near copies if need be.

    Rows that share one of 64 bands of their signatures are candidates (Leskovec et al., Mining of Massive Datasets,
    section 3.4); a pair counts if its estimated similarity reaches `threshold` and its lengths `LENGTH_SHARE`. Within
    a band rows are compared with the first one, those that differ from it with the first of the rest, and so on for 16
    rounds.

    Args:
        rows: signatures (N, 256) uint32, in memory or memory-mapped.
        lengths: (N,) characters of the normal forms.
        groups: (N,) the number of the first row of each row's group, as `group_exact` gives it; default: none are
            equal.

    Returns:
        (N,) int64: for each row the lowest row number of its group.
    """
    labels = np.arange(len(rows)) if groups is None else groups.copy()
    firsts = np.flatnonzero(labels == np.arange(len(labels)))
    bands = tqdm(range(BANDS), desc="Finding near copies", unit="band", delay=BAR_DELAY)
    pairs = [_pairs_of_band(rows, lengths, firsts, band, threshold) for band in bands]
    one, other = np.concatenate(pairs).T if pairs else np.zeros((2, 0), dtype=np.int64)
    labels = _connect(labels, one, other)
    return labels[labels]


def _hash(form: str) -> int:
    return int.from_bytes(hashlib.blake2b(form.encode("utf-8"), digest_size=8).digest(), "little", signed=True)


def _sign(forms: Sequence[str]) -> np.ndarray:
    if not len(forms):
        return np.zeros((0, PERMUTATIONS), dtype=np.uint32)
    short = [len(form.encode("utf-8")) < SHORTEST for form in forms]
    pairs = list(zip(forms, short, strict=True))
    # one hash for an empty text, in whose place that of the whole comes
    hashes, bounds = ngram_hashes(["" if is_short else form for form, is_short in pairs], NGRAM)
    whole = np.array([_hash(form) for form, is_short in pairs if is_short], dtype=np.int64)
    hashes[bounds[:-1][short]] = whole.view(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, bounds, PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _pairs_of_band(
    rows: np.ndarray, lengths: np.ndarray, firsts: np.ndarray, band: int, threshold: float
) -> np.ndarray:
    """(P, 2) row numbers of near copies among the rows of equal values in a band."""
    width = PERMUTATIONS // BANDS
    keys = _band_keys(rows, firsts, band * width, width)
    order = np.argsort(keys, kind="stable")  # so that rows of one bucket keep their order
    keys = keys[order]
    members = firsts[order]
    fresh = np.append(True, keys[1:] != keys[:-1])
    bucket = np.cumsum(fresh) - 1
    shared = np.bincount(bucket)[bucket] > 1
    members, bucket = members[shared], bucket[shared]
    found = []
    for _ in range(_ROUNDS):
        if not len(members):
            break
        starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
        leaders = np.repeat(members[starts], np.diff(np.append(starts, len(members))))
        alike = _alike(rows, leaders, members, threshold) & _as_long(lengths[leaders], lengths[members])
        pairs = np.stack([leaders[alike], members[alike]], axis=1)
        found.append(pairs[pairs[:, 0] != pairs[:, 1]])
        members, bucket = members[~alike], bucket[~alike]
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)


def _band_keys(rows: np.ndarray, firsts: np.ndarray, start: int, width: int) -> np.ndarray:
    """(F,) uint64 that are equal where the values of a band are."""
    keys = np.zeros(len(firsts), dtype=np.uint64)
    for begin in range(0, len(firsts), _PAIRS):
        values = rows[firsts[begin : begin + _PAIRS], start : start + width].astype(np.uint64)
        for column in values.T:
            part = keys[begin : begin + _PAIRS]
            part ^= column
            part *= np.uint64(0x9E3779B97F4A7C15)
            part ^= part >> np.uint64(29)
    return keys


def _alike(rows: np.ndarray, one: np.ndarray, other: np.ndarray, threshold: float) -> np.ndarray:
    """(P,) bool: whether the signatures of each pair agree in a share of at least `threshold`."""
    parts = [
        (rows[one[begin : begin + _PAIRS]] == rows[other[begin : begin + _PAIRS]]).mean(axis=1) >= threshold
        for begin in range(0, len(one), _PAIRS)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def _as_long(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) bool: whether the shorter of each pair of lengths is at least `LENGTH_SHARE` of the longer."""
    return np.minimum(one, other) >= LENGTH_SHARE * np.maximum(one, other)


def _connect(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The lowest row number of each connected component."""
    while True:
        lowest = np.minimum(labels[one], labels[other])
        before = labels.copy()
        np.minimum.at(labels, one, lowest)
        np.minimum.at(labels, other, lowest)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels
