"""Texts on the way from one text to another."""

import argparse
from collections.abc import Iterator
from typing import Any

from boustro.commands.common import add_model_options, add_output_options, load, write


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("a", help="The text to start from.")
    parser.add_argument("b", help="The text to end at.")
    parser.add_argument("--steps", type=int, default=7, help="Texts on the way, both ends included.")
    parser.add_argument("--spherical", action="store_true", help="On an arc instead of a straight line.")
    add_output_options(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> None:
    """Writes a text a step, or `{"step", "text"}`."""
    write(options, interpolated(options), "{text}")


def interpolated(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every step of the way."""
    model, tokenizer = load(options)
    texts = model.interpolate(options.a, options.b, options.steps, options.spherical, tokenizer)
    yield from ({"step": step, "text": text} for step, text in enumerate(texts))
