"""Writes texts anew from their latents alone."""

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
    parser.add_argument("--backward", action="store_true", help="Add the backward drafts.")
    add_text_options(parser)
    add_output_options(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> None:
    """Writes text and reconstruction with a tab between, or `{"text", "reconstruction"}`, and `backward` if asked."""
    line = "{text}\t{reconstruction}\t{backward}" if options.backward else "{text}\t{reconstruction}"
    write(options, reconstructed(options, read_texts(options)), line)


def reconstructed(options: argparse.Namespace, texts: list[str]) -> Iterator[dict[str, Any]]:
    """Every text beside what its latents say."""
    model, tokenizer = load(options)
    for some in batches(texts, options.batch_size):
        results = [dict(zip(("text", "reconstruction"), pair, strict=True))
                   for pair in zip(some, model.reconstruct(some, tokenizer), strict=True)]  # fmt: skip
        if options.backward:
            found = model.encode(some, tokenizer)
            drafts = model.backward(found.mean, tokenizer)
            for result, draft, count in zip(results, drafts, found.segment_count.tolist(), strict=True):
                result["backward"] = "".join(draft[:count])
        yield from results
