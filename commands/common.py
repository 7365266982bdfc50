"""What the commands share: options, texts from stdin or a file, the model, results as lines or JSON."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TextIO

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from boustro import BoustroForCausalLM
from boustro.data_scripts.errors import DataError
from boustro.evaluation.checkpoint import load_checkpoint
from boustro.evaluation.options import check_device_and_seed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--device, --dtype, --seed, --batch-size."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="Number format of the weights; int8: CPU.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of everything that is drawn.")
    parser.add_argument("--batch-size", type=int, default=32, help="Texts worked on at a time.")


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """--input, --whole."""
    parser.add_argument("--input", help="File of texts in UTF-8, one a line. Default: stdin.")
    parser.add_argument("--whole", action="store_true", help="The input is a single text, line ends included.")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """--output, --json."""
    parser.add_argument("--output", help="File for the results. Default: stdout.")
    parser.add_argument("--json", action="store_true", help="A JSON object a line.")


def load(options: argparse.Namespace) -> tuple[BoustroForCausalLM, PreTrainedTokenizerBase]:
    """Model and tokenizer; sets the seed. Raises `DataError` for what is no boustro model, and for options that
    cannot be."""
    check_device_and_seed(options)
    if options.dtype == "int8" and options.device != "cpu":
        raise DataError(f"--dtype int8 was given with --device {options.device}, expected --device cpu.")
    if options.batch_size < 1:
        raise DataError(f"--batch-size is {options.batch_size}, expected 1 or more.")
    model, tokenizer = load_checkpoint(options.model, options.device, DTYPES[options.dtype])
    torch.manual_seed(options.seed)
    return int8(model) if options.dtype == "int8" else model, tokenizer


def int8(model: BoustroForCausalLM) -> BoustroForCausalLM:
    """A copy whose LSTM and linear layers have int8 weights, with inputs rounded as they come. For a CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is called deprecated; torchao, its successor, has no LSTM
        return torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)


def read_texts(options: argparse.Namespace, keep_empty: bool = False) -> list[str]:
    """The lines of the input, or all of it as one text with --whole. Empty lines are dropped unless `keep_empty`.

    Raises:
        DataError: for input that is not UTF-8 or holds no text; OSError for a file that cannot be read.
    """
    name = options.input or "stdin"
    try:
        if options.input:
            with open(options.input, encoding="utf-8-sig", newline="") as file:
                text = file.read()
        else:
            text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 ({error}); convert it, for example with iconv -t UTF-8.") from error
    texts = [text] if options.whole else [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    found = texts if keep_empty and text else [text for text in texts if text]
    if not found:
        raise DataError(f"{name} holds no text, expected one a line.")
    return found


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def output(options: argparse.Namespace) -> Iterator[TextIO]:
    """The file of --output, or stdout, in UTF-8."""
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            yield file
    else:
        sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout


def write(options: argparse.Namespace, results: Iterator[dict[str, Any]], line: str) -> None:
    """Each result as a JSON object, or as `line`, a template for `str.format`; as soon as it is there. The file of
    --output is opened when there is a first one."""
    first = list(islice(results, 1))
    with output(options) as file:
        for result in chain(first, results):
            text = json.dumps(result, ensure_ascii=False) if options.json else line.format(**result)
            print(text, file=file, flush=True)
