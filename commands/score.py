"""How likely texts are: nats and bits per character."""

import argparse
from collections.abc import Iterator
from typing import Any

from boustro.commands.common import (
    add_model_options,
    add_output_options,
    add_text_options,
    batches,
    load,
    read_texts,
    write,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("--samples", type=int, help="Importance-weighted bound of so many samples. Default: the ELBO.")
    add_text_options(parser)
    add_output_options(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> None:
    """Writes nats, characters, bits per character and the text with tabs between, or an object of these names."""
    line = "{nats:.3f}\t{characters}\t{bits_per_character:.4f}\t{text}"
    write(options, scored(options, read_texts(options)), line)


def scored(options: argparse.Namespace, texts: list[str]) -> Iterator[dict[str, Any]]:
    """The figures of every text."""
    model, tokenizer = load(options)
    for some in batches(texts, options.batch_size):
        scores = model.score(some, options.samples, tokenizer=tokenizer)
        figures = zip(*(scores[name].tolist() for name in ("nats", "characters", "bits_per_character")), strict=True)
        for text, (nats, characters, bits) in zip(some, figures, strict=True):
            yield {"text": text, "nats": nats, "characters": characters, "bits_per_character": bits}
