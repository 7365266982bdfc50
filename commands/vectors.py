"""Vectors of texts, their posterior means, in the format of word2vec or for TensorBoard's projector."""

import argparse

from boustro.commands.common import add_model_options, add_text_options, batches, load, output, read_texts
from boustro.data_scripts.errors import DataError
from boustro.export.vectors import sentence_vectors, write_projector, write_word2vec


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("--output", help="File for the vectors. Default: stdout.")
    parser.add_argument("--projector", help="Write vectors.tsv and metadata.tsv into this folder instead.")
    add_text_options(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> None:
    """Writes a vector for every text."""
    if options.output and options.projector:
        raise DataError("--output and --projector were both given, expected one of them.")
    texts = read_texts(options)
    model, tokenizer = load(options)
    vectors = [row for some in batches(texts, options.batch_size) for row in sentence_vectors(model, some, tokenizer)]
    if options.projector:
        write_projector(options.projector, texts, vectors)
    else:
        with output(options) as file:
            write_word2vec(file, texts, vectors)
