"""Scores a checkpoint on a text: the bound, the use of the latent, and nanoGPT's protocol beside it.

    python -m boustro.evaluation runs/demo --data held_out.txt

Prints a table and, as its last line, one JSON object with the same figures.
"""

import argparse
import json
import sys

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.files import check_checkpoint
from boustro.data_scripts.prepare import prepare_whole
from boustro.evaluation.scoring import collapse_warning, evaluate_split, score_cold_windows

COLD_WINDOW = 256


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after an error of the user's, printed as one sentence."""
    options = parse(argv)
    try:
        figures = evaluate(options)
    except (OSError, ValueError, SafetensorError) as error:
        print(f"boustro: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {'–' if value is None else f'{value:.4f}' if isinstance(value, float) else value}")
    warning = collapse_warning(figures)
    if warning:
        print(f"warning: {warning}")
    print(json.dumps(figures))
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m boustro.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="Folder or Hub id of a boustro model.")
    parser.add_argument("--data", nargs="+", required=True, help="Files or globs: .txt, .jsonl, .csv, .parquet.")
    parser.add_argument("--text-column", default="text", help="Column that holds the text.")
    parser.add_argument(
        "--input-mode",
        choices=("stream", "documents"),
        help="How the text is read. Default: documents for a model with a standard prior, else stream.",
    )
    parser.add_argument("--max-length", type=int, default=256, help="documents: longer ones are cut into pieces.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the posterior samples.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def evaluate(options: argparse.Namespace) -> dict:
    """The figures of `evaluate_split`, and `cold_nats` for a stream."""
    check_checkpoint(options.checkpoint)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise DataError("--device cuda: no GPU that torch can use was found; leave the option out.")
    if options.max_length < 2:
        raise DataError(f"--max-length is {options.max_length}, expected at least 2 characters.")
    # the tokenizer is plain data: loading it needs no code from the folder
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint, trust_remote_code=False)
    config = AutoConfig.from_pretrained(options.checkpoint)
    if config.model_type != "boustro":
        raise DataError(f"{options.checkpoint} holds a model of type {config.model_type!r}, expected a boustro model.")
    mode = options.input_mode or ("documents" if config.latent_prior == "standard" else "stream")
    data = DataArguments(train_file=options.data, text_column=options.text_column, input_mode=mode, deduplicate=False)
    corpus, _ = prepare_whole(data, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint).to(options.device)
    figures = evaluate_split(model, corpus, input_mode=mode, max_length=options.max_length, seed=options.seed)
    if mode == "stream" and len(corpus.ids) > COLD_WINDOW:
        figures["cold_nats"] = score_cold_windows(model, corpus, COLD_WINDOW, seed=options.seed)
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
