"""Texts on the way from one text to another, of a pair or of every pair of the input."""

import argparse
from collections.abc import Iterator
from typing import Any

from boustro.commands.common import add_model_options, add_output_options, batches, load, read_texts, write
from boustro.data_scripts.errors import DataError
from boustro.tokenization_boustro import repair_surrogates


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("a", nargs="?", help="The text to start from. Default: the pairs of the input.")
    parser.add_argument("b", nargs="?", help="The text to end at.")
    parser.add_argument("--steps", type=int, default=7, help="Texts on the way, both ends included.")
    parser.add_argument("--spherical", action="store_true", help="On an arc instead of a straight line.")
    parser.add_argument(
        "--max-new-tokens", type=int, help="Characters of a text, at most. Default: the shorter one's segments."
    )
    parser.add_argument("--input", help="File of pairs in UTF-8, one a line, with a tab between. Default: stdin.")
    add_output_options(parser)
    add_model_options(parser)
    parser.set_defaults(whole=False)  # a line of the input is a pair


def run(options: argparse.Namespace) -> None:
    """Writes a text a step, pair after pair, or `{"a", "b", "step", "text"}`."""
    if options.max_new_tokens is not None and options.max_new_tokens < 1:
        raise DataError(f"--max-new-tokens is {options.max_new_tokens}, expected 1 or more.")
    write(options, interpolated(options, read_pairs(options)), "{text}")


def read_pairs(options: argparse.Namespace) -> list[list[str]]:
    """The pair of the command line, else those of the input. Raises `DataError` for what is no pair."""
    if options.a is not None:
        if options.b is None:
            raise DataError(f"one text was given, {options.a!r}, expected two, or none to read pairs from the input.")
        if options.input:
            raise DataError("two texts and --input were both given, expected one of them.")
        return [[repair_surrogates(options.a), repair_surrogates(options.b)]]
    pairs = [line.split("\t") for line in read_texts(options)]
    for pair in pairs:
        if len(pair) != 2:
            line = "\t".join(pair)
            raise DataError(f"{options.input or 'stdin'} holds {line[:60]!r}, expected two texts with a tab between.")
    return pairs


def interpolated(options: argparse.Namespace, pairs: list[list[str]]) -> Iterator[dict[str, Any]]:
    """Every step of every way."""
    model, tokenizer = load(options)
    length = {} if options.max_new_tokens is None else {"max_new_tokens": options.max_new_tokens}
    for some in batches(pairs, options.batch_size):
        starts, stops = map(list, zip(*some, strict=True))
        ways = model.interpolate(starts, stops, options.steps, options.spherical, tokenizer, **length)
        for (a, b), texts in zip(some, ways, strict=True):
            yield from ({"a": a, "b": b, "step": step, "text": text} for step, text in enumerate(texts))
