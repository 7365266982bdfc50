"""An `evaluate` metric: the share of characters that are wrong, by edit distance and by position.

metric = evaluate.load("evaluation/character_error_rate.py")
metric.compute(predictions=["hello word", "你好"], references=["hello world", "您好"])
"""

from itertools import zip_longest

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
The edits (insertions, deletions and substitutions of a character) that turn the predictions into the references,
divided by the characters of the references; and, without any alignment, the share of wrong characters at each place
of the references, which tells where in a text the errors begin.
"""

_CITATION = "Levenshtein 1966, Binary codes capable of correcting deletions, insertions and reversals"

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of str, the texts as they came out.
    references: list of str, the texts as they should be, one for each prediction.
    bucket: how many positions each figure of by_position takes together.
Returns:
    character_error_rate: edits per character of the references, over all texts; above 1 for much too long predictions.
    by_position: list of float, for positions 0 to bucket - 1, bucket to 2 bucket - 1 and so on, the share of reference
        characters for which the prediction has another character, or none, at the same position.
    edits, characters: the totals that were divided.
Raises:
    ValueError: if the references hold no character, or bucket is not positive.
"""


class CharacterErrorRate(evaluate.Metric):
    """Sums edits and characters over the texts, then divides."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references, bucket=32):
        if bucket < 1:
            raise ValueError(f"character_error_rate: bucket is {bucket}, expected at least 1.")
        characters = sum(map(len, references))
        if characters == 0:
            raise ValueError(
                f"character_error_rate: {len(references)} references without a character, expected at least one."
            )
        edits = sum(_distance(*pair) for pair in zip(predictions, references, strict=True))
        return {
            "character_error_rate": edits / characters,
            "by_position": _by_position(predictions, references, bucket),
            "edits": edits,
            "characters": characters,
        }


def _distance(prediction: str, reference: str) -> int:
    """The Levenshtein distance, row by row: row i holds the distances of the first i characters of `prediction`."""
    codes = np.array([ord(character) for character in reference], dtype=np.int64)
    places = np.arange(len(codes) + 1)
    row = places
    for character in prediction:
        following = row + 1
        following[1:] = np.minimum(following[1:], row[:-1] + (codes != ord(character)))
        # insertions go along the row: the least of what stands before, plus one for each place between
        row = np.minimum.accumulate(following - places) + places
    return int(row[-1])


def _by_position(predictions: list[str], references: list[str], bucket: int) -> list[float]:
    """The share of wrong characters in each bucket of positions, up to the end of the longest reference."""
    longest = max(map(len, references))
    wrong, total = np.zeros(longest, dtype=np.int64), np.zeros(longest, dtype=np.int64)
    for prediction, reference in zip(predictions, references, strict=True):
        pairs = zip_longest(prediction[: len(reference)], reference)
        wrong[: len(reference)] += np.array([left != right for left, right in pairs], dtype=np.int64)
        total[: len(reference)] += 1
    starts = np.arange(0, longest, bucket)
    return (np.add.reduceat(wrong, starts) / np.add.reduceat(total, starts)).tolist()
