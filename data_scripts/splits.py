"""Train, validation and test parts: the end of a stream, or documents chosen at random, copies on one side."""

from collections.abc import Sequence

import numpy as np

from .errors import DataError


def stream_cuts(lengths: np.ndarray, fractions: Sequence[float]) -> list[tuple[int, int]]:
    """Where a text is cut so that its end has these shares of its characters, the last share at the very end.

    Args:
        lengths: (R,) characters of the rows that make up the text.
        fractions: of the parts behind the first one.

    Returns:
        For each of those parts the row it begins in and the characters of that row that belong to the part before.

    Raises:
        DataError: if a part would be empty.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    # from the smallest remainder up, so that a single part begins at int((1 - fraction) * total)
    starts = [int((1 - sum(fractions[number:])) * total) for number in range(len(fractions))]
    if any(size <= 0 for size in np.diff([0, *starts, total])):
        raise DataError(
            f"The text of {total} characters is too short to split with validation_fraction {fractions[0]}: "
            "give more text, or other text as validation_file."
        )
    rows = np.searchsorted(ends, starts, side="right")
    return [(int(row), start - int(ends[row] - lengths[row])) for row, start in zip(rows, starts, strict=True)]


def choose_documents(groups: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Puts a share of the rows, at least one, into each part behind the first, whole groups at a time.

    Args:
        groups: (R,) rows of equal number stay together.
        fractions: of the parts behind the first one.

    Returns:
        (R,) uint8: the part of each row, 0 for the first.

    Raises:
        DataError: if no row would be left for one of the parts.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.cumsum(sizes[order])
    wanted = np.cumsum([max(1, round(fraction * len(groups))) for fraction in fractions])
    bounds = np.searchsorted(filled, wanted) + 1  # groups that the parts up to here have taken
    if any(size <= 0 for size in np.diff([0, *bounds, len(sizes)])):
        raise DataError(
            f"{_count(len(groups), 'document')} (cleaned, and without copies) cannot be split with "
            f"validation_fraction {fractions[0]}: give more documents (every line is one with sample_by line), "
            "or validation_file, or choose input_mode stream to cut within a document."
        )
    part = np.zeros(len(sizes), dtype=np.uint8)
    for number, (start, stop) in enumerate(zip([0, *bounds], bounds, strict=False), start=1):
        part[order[start:stop]] = number
    return part[group]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
