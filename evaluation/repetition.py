"""An `evaluate` metric: how much of a text repeats itself, and how often texts end in a loop.

metric = evaluate.load("evaluation/repetition.py")
metric.compute(predictions=["to be or not to be", "你好，世界"], n=4)
"""

import datasets
import evaluate

_DESCRIPTION = """
Two signs of degeneration, over characters: n-grams that occurred before in the same text, and texts that got stuck.
A text ends in a loop if its last characters, at least n, repeat one period at least three times; the last repetition
may be broken off. Human text repeats itself too: read the figures beside those of real text of the same lengths.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of str, the texts.
    n: length of the n-grams, in characters.
Returns:
    repeated_share: share of all n-grams that already occurred earlier in their text; None if no text has n characters.
    looping_share: share of the texts that end in a loop.
Raises:
    ValueError: if the texts hold no character, or n is not positive.
"""


class Repetition(evaluate.Metric):
    """Counts repeated n-grams and looping ends."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions, n=16):
        if n < 1:
            raise ValueError(f"repetition: n is {n}, expected at least 1.")
        if not any(predictions):
            raise ValueError(f"repetition: {len(predictions)} texts without a character, expected at least one.")
        total = sum(max(len(text) - n + 1, 0) for text in predictions)
        different = sum(len({text[start : start + n] for start in range(len(text) - n + 1)}) for text in predictions)
        return {
            "repeated_share": (total - different) / total if total else None,
            "looping_share": sum(_ends_in_loop(text, n) for text in predictions) / len(predictions),
        }


def _ends_in_loop(text: str, least: int) -> bool:
    """Whether at least the last `least` characters repeat a period of at most a third of them."""
    for period in range(1, len(text) // 3 + 1):
        end = text[-max(3 * period, least) :]
        if len(end) >= least and end[period:] == end[:-period]:
            return True
    return False
