"""Exports a model to ONNX, with its state as inputs and outputs."""

import argparse

from boustro.commands.common import add_model_options, load
from boustro.export.onnx import export_onnx


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("folder", help="Folder for the ONNX files; made if it is missing.")
    add_model_options(parser)


def run(options: argparse.Namespace) -> None:
    """Writes the graphs and prints their names."""
    model, tokenizer = load(options)
    for path in export_onnx(model, tokenizer, options.folder):
        print(path)
