"""Exports a model to ONNX, with its state as inputs and outputs."""

import argparse

from boustro.commands.common import load
from boustro.export.onnx import export_onnx


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("folder", help="Folder for the ONNX files; made if it is missing.")
    parser.set_defaults(device="cpu", dtype="float32", batch_size=1, seed=0)


def run(options: argparse.Namespace) -> None:
    """Writes the graphs and prints their names."""
    model, tokenizer = load(options)
    for path in export_onnx(model, tokenizer, options.folder):
        print(path)
