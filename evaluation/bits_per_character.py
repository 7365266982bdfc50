"""An `evaluate` metric: bits per character and per byte from the nats a model needs for each text.

metric = evaluate.load("evaluation/bits_per_character.py")
metric.compute(predictions=[12.3], references=["hello world"])
"""

import math

import datasets
import evaluate

_DESCRIPTION = """
How many bits a model needs for a character (Unicode code point) and for a UTF-8 byte of the reference texts. For a
latent-variable model the nats must be those of the bound: reconstruction and KL together.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of float, the negative log likelihood (or a bound on it) of each text, in nats.
    references: list of str, the texts.
Returns:
    nats_per_character, bits_per_character, bits_per_byte: averages over all texts together.
    characters, bytes: the totals that were divided by.
"""


class BitsPerCharacter(evaluate.Metric):
    """Sums nats, characters and bytes over the texts, then divides."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references):
        characters = sum(map(len, references))
        size = sum(len(text.encode("utf-8")) for text in references)
        if characters == 0:
            raise ValueError("bits_per_character: the references hold no character, expected at least one.")
        nats = math.fsum(predictions)
        return {
            "nats_per_character": nats / characters,
            "bits_per_character": nats / math.log(2) / characters,
            "bits_per_byte": nats / math.log(2) / size,
            "characters": characters,
            "bytes": size,
        }
