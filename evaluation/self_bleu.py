"""An `evaluate` metric: Self-BLEU over characters, how much texts are like one another.

metric = evaluate.load("evaluation/self_bleu.py")
metric.compute(predictions=["hello world", "hello there", "你好，世界"])
"""

import math
from collections import Counter

import datasets
import evaluate

_DESCRIPTION = """
The mean BLEU of each text against all others, over character n-grams of 1 to `max_order` of equal weight. Low means
varied. It is exact: no references are left out. The more texts, the higher the figure: compare equally many.

Smoothing is that of the paper's program (NLTK's method 1; Chen and Cherry 2014, section 3): an order without a match
counts as 0.1 matches; a text without a single matching character, or of no characters, has a BLEU of 0.
"""

_CITATION = "Zhu et al. 2018, Texygen: A Benchmarking Platform for Text Generation Models (Self-BLEU)"

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of str, at least two texts.
    max_order: length of the longest n-grams, in characters.
Returns:
    self_bleu: from 0 to 1, where 1 says that every text's n-grams all occur in others.
    texts: how many texts were compared.
Raises:
    ValueError: if there are fewer than two texts, or they hold no character.
"""

_SMOOTHING = 0.1  # matches of an order that has none


class SelfBleu(evaluate.Metric):
    """Compares each text with all others in time linear in their characters."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions, max_order=5):
        if len(predictions) < 2 or not any(predictions):
            raise ValueError(
                f"self_bleu: {len(predictions)} texts with {sum(map(len, predictions))} characters, "
                "expected at least two texts and one character."
            )
        orders = [_precisions(predictions, order) for order in range(1, max_order + 1)]
        penalties = _brevity_penalties([len(text) for text in predictions])
        scores = [
            penalty * math.exp(sum(map(math.log, precisions)) / max_order) if precisions[0] > 0 else 0.0
            for penalty, precisions in zip(penalties, zip(*orders, strict=True), strict=True)
        ]
        return {"self_bleu": math.fsum(scores) / len(scores), "texts": len(scores)}


def _precisions(texts: list[str], order: int) -> list[float]:
    """For each text the share of its n-grams found in others, each at most as often as in the one that has it most."""
    counts = [Counter(text[start : start + order] for start in range(len(text) - order + 1)) for text in texts]
    # the two largest counts of an n-gram tell, for every text, the largest one among the others
    most = {}
    for count in counts:
        for ngram, times in count.items():
            first, second = most.get(ngram, (0, 0))
            most[ngram] = (times, first) if times > first else (first, max(second, times))
    precisions = []
    for count in counts:
        matches = 0
        for ngram, times in count.items():
            first, second = most[ngram]
            matches += times if times < first else second
        smoothing = _SMOOTHING if order > 1 else 0
        precisions.append((matches or smoothing) / max(count.total(), 1))
    return precisions


def _brevity_penalties(lengths: list[int]) -> list[float]:
    """BLEU's penalty of texts that are shorter than the other one closest in length (the shorter of two such)."""
    times = Counter(lengths)
    penalties = []
    for length in lengths:
        others = (other for other in times if other != length or times[other] > 1)
        closest = min(others, key=lambda other: (abs(other - length), other))
        penalties.append(math.exp(min(1 - closest / length, 0)) if length else 0.0)
    return penalties
