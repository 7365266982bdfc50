"""An `evaluate` metric: distinct-n over characters, how varied texts are.

metric = evaluate.load("evaluation/distinct_n.py")
metric.compute(predictions=["hello world", "你好，世界"], n=(2, 4), max_characters=100_000)
"""

import datasets
import evaluate

_DESCRIPTION = """
The number of different character n-grams, divided by the number of characters. N-grams lie within one text; those of
all texts are counted together. The longer the text, the lower the figure, so that only the first `max_characters`
characters are counted: compare figures whose `counted_characters` are alike.
"""

_CITATION = "Li et al. 2016, A Diversity-Promoting Objective Function for Neural Conversation Models, section 5"

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of str, the texts.
    n: the lengths of n-grams, in characters.
    max_characters: count the first so many characters of the texts, in their order; the last one may be cut.
Returns:
    distinct_2 and so on, one for each length: different n-grams per character.
    counted_characters: characters that were counted, fewer than max_characters if the texts hold fewer.
Raises:
    ValueError: if the texts hold no character, or n or max_characters is not positive.
"""


class DistinctN(evaluate.Metric):
    """Counts the different n-grams of the first characters of the texts."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions, n=(2, 4, 6), max_characters=100_000):
        if max_characters < 1 or min(n, default=0) < 1:
            raise ValueError(
                f"distinct_n: n is {n} and max_characters is {max_characters}, expected one n at least, all positive."
            )
        texts = _beginning(predictions, max_characters)
        characters = sum(map(len, texts))
        if characters == 0:
            raise ValueError(f"distinct_n: {len(predictions)} texts without a character, expected at least one.")
        figures = {}
        for size in n:
            ngrams = {text[start : start + size] for text in texts for start in range(len(text) - size + 1)}
            figures[f"distinct_{size}"] = len(ngrams) / characters
        return {**figures, "counted_characters": characters}


def _beginning(texts: list[str], count: int) -> list[str]:
    """The texts up to their first `count` characters together."""
    beginning = []
    for text in texts:
        beginning.append(text[:count])
        count -= len(beginning[-1])
    return beginning
