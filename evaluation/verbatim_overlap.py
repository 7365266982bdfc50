"""An `evaluate` metric: how long the passages are that texts copy verbatim from the training texts.

metric = evaluate.load("evaluation/verbatim_overlap.py")
metric.compute(predictions=["a hello world b"], training_texts=["hello world", "你好，世界"])
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
The longest substring of each text that occurs verbatim within one training text, in characters. It is exact: case,
spaces and line breaks all count. Held-out text shares passages with the training texts too: its figures are the
yardstick.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of str, the texts.
    training_texts: list of str, of any number; a match never spans two of them.
Returns:
    mean_copied_characters, max_copied_characters: of the longest copied passage of each text.
    share_with_50_copied: share of the texts that hold a copied passage of at least 50 characters.
    longest_copy: str, the longest copied passage of all (the first of several).
Raises:
    ValueError: if the texts or the training texts hold no character.
"""

_LONG_COPY = 50  # characters
_CHUNK = 1 << 20  # training positions that are followed at once, which bounds the memory
# ends of texts: no code points, and different ones, so that they never match
_END_OF_PREDICTION, _END_OF_TRAINING = 0x110000, 0x110001
_CODES = 0x110002


class VerbatimOverlap(evaluate.Metric):
    """Finds the longest common substring of each text and the training texts."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions, training_texts):
        for name, texts in (("predictions", predictions), ("training_texts", training_texts)):
            if not any(texts):
                raise ValueError(f"verbatim_overlap: {name} hold no character ({len(texts)} texts), expected one.")
        lengths = _match_lengths(_codes(predictions, _END_OF_PREDICTION), _codes(training_texts, _END_OF_TRAINING))
        starts = np.cumsum([0, *(len(text) + 1 for text in predictions[:-1])])
        longest = np.maximum.reduceat(lengths, starts)  # (P,)
        text = int(longest.argmax())
        start = int(lengths[starts[text] :].argmax())
        return {
            "mean_copied_characters": float(longest.mean()),
            "max_copied_characters": int(longest.max()),
            "share_with_50_copied": float((longest >= _LONG_COPY).mean()),
            "longest_copy": predictions[text][start : start + int(longest[text])],
        }


def _codes(texts: list[str], end: int) -> np.ndarray:
    """The code points of the texts, (C,) uint32, with `end` after each of them."""
    codes = np.full(sum(map(len, texts)) + len(texts), end, dtype=np.uint32)
    start = 0
    for text in texts:
        codes[start : start + len(text)] = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        start += len(text) + 1
    return codes


def _match_lengths(predictions: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Lengths (C,) of the longest matches in `training` that start at each position of `predictions` (C,)."""
    lengths = np.zeros(len(predictions), dtype=np.int64)
    for start in range(0, len(training), _CHUNK):
        places = np.arange(start, min(start + _CHUNK, len(training)))
        np.maximum(lengths, _follow(predictions, training, places), out=lengths)
    return lengths


def _follow(predictions: np.ndarray, training: np.ndarray, places: np.ndarray) -> np.ndarray:
    """As `_match_lengths`, with the matches that start at `places` in `training`.

    Walks down the trie of the suffixes of the predictions, one character a step and on both sides at once. A node is
    numbered by the rank of (parent, character) among those of its depth; positions are dropped as soon as the other
    side has none at their node, which no position at the end of a text survives.
    """
    lengths = np.zeros(len(predictions), dtype=np.int64)
    positions = np.arange(len(predictions))
    nodes, training_nodes = np.zeros_like(positions), np.zeros_like(places)
    length = 0
    while len(positions):
        edges = nodes * _CODES + predictions[positions + length]
        level, nodes = np.unique(edges, return_inverse=True)
        edges = training_nodes * _CODES + training[places + length]
        training_nodes = np.searchsorted(level, edges).clip(max=len(level) - 1)
        found = level[training_nodes] == edges
        places, training_nodes = places[found], training_nodes[found]
        reached = np.zeros(len(level), dtype=bool)
        reached[training_nodes] = True
        alive = reached[nodes]
        positions, nodes = positions[alive], nodes[alive]
        length += 1
        lengths[positions] = length
    return lengths
