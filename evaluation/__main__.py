"""Measures a checkpoint on a text: the bound, what the latent is worth, reconstructions, samples.

    python -m boustro.evaluation runs/demo --data held_out.txt
    python -m boustro.evaluation runs/names --data held_out.txt --samples 500 --train-data names.txt
    python -m boustro.evaluation runs/mine --data held_out.txt --baseline runs/plain runs/wide
    python -m boustro.evaluation safety runs/mine   # see safety.py

Prints a table and, as its last line, one JSON object with the same figures. Draws pictures into the checkpoint's
folder and puts all of it into the marked section of the card there (README.md).
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boustro.data_scripts.batches import Batch
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.files import check_checkpoint, find_files
from boustro.evaluation import safety
from boustro.evaluation.checkpoint import load_checkpoint
from boustro.evaluation.latents import Posteriors, examine, importance_weighted, longest_alignment
from boustro.evaluation.memory import memory_of_use
from boustro.evaluation.options import check_device_and_seed
from boustro.evaluation.particles import particle_bound
from boustro.evaluation.pictures import draw_alignment, draw_latent_map, draw_unit_kl
from boustro.evaluation.reading import (
    cold_batches,
    corpus_texts,
    first_rows,
    read_corpus,
    reading_options,
    split_batches,
)
from boustro.evaluation.reconstruction import Reconstructions, reconstruct, reconstruction_figures
from boustro.evaluation.report import card_section, printed, write_section
from boustro.evaluation.samples import cut_like, draw_samples, sample_figures
from boustro.evaluation.scoring import PARALLEL_ROWS, collapse_warning, evaluate_split, score_cold_windows

COLD_WINDOW = 256
EXAMINED_SEGMENTS = 512  # what is examined on segments or documents is examined on the first so many
IMPORTANCE_DOCUMENTS = 50
SHOWN_ROWS = 64  # that are reconstructed
STREAM_SAMPLE_CHARACTERS = 300
OVERLAP_FIGURES = ("mean_copied_characters", "max_copied_characters", "share_with_50_copied", "longest_copy")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0; 1 if the figures are printed, but not written; 2 after an error of the user's,
    printed as one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["safety"]:
        return safety.main(argv[1:])
    options = parse(argv)
    try:
        figures, write = evaluate(options)
    except (OSError, ValueError) as error:
        print(f"boustro: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(printed(figures))
    warning = collapse_warning(figures)
    if warning:
        print(f"warning: {warning}")
    code = 0
    try:
        card = write()
        print(f"written: {card}" if card else "nothing written: give --output for a checkpoint of the Hub.")
    except OSError as error:
        print(f"nothing written ({error}): give another folder as --output.")
        code = 1
    print(json.dumps(figures))
    return code


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m boustro.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="Folder or Hub id of a boustro model.")
    parser.add_argument("--data", nargs="+", required=True, help="Files or globs: .txt, .jsonl, .csv, .parquet.")
    parser.add_argument("--train-data", nargs="+", help="The training text, to find what samples copy from it.")
    parser.add_argument("--text-column", default="text", help="Column that holds the text.")
    parser.add_argument(
        "--input-mode",
        choices=("stream", "documents"),
        help="How the text is read. Default: documents for a model with a standard prior, else stream.",
    )
    parser.add_argument(
        "--sample-by",
        choices=("line", "paragraph", "document"),
        help="What is a row of a .txt file. Default: as the run in the checkpoint's folder, which also says how the "
        "text is cleaned; else document for a stream, line for documents.",
    )
    parser.add_argument(
        "--max-length",
        type=int,
        help="documents: longer ones are cut into pieces. Default: that of the run in the checkpoint's folder, else "
        "segment_length where a document has one latent.",
    )
    parser.add_argument("--samples", type=int, default=0, help="Draw so many texts and compare them with real text.")
    parser.add_argument(
        "--importance-samples",
        type=int,
        default=100,
        help=f"documents: samples of the importance-weighted bound of the first {IMPORTANCE_DOCUMENTS}; 0 for none.",
    )
    parser.add_argument(
        "--particles",
        type=int,
        default=16,
        help="stream: particles of a tighter bound than the ELBO (Maddison et al. 2017); 0 for none.",
    )
    parser.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        help="After the checkpoint: other boustro models, scored on the same text, best a plain one with the same "
        "decoder and a plain one of equal size.",
    )
    parser.add_argument("--output", help="Folder for pictures and README.md. Default: the checkpoint's.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of everything that is drawn.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def check(options: argparse.Namespace) -> None:
    """Raises `DataError` for options that cannot be, before anything is loaded."""
    check_checkpoint(options.checkpoint)
    for baseline in options.baseline:
        check_checkpoint(baseline)
    check_device_and_seed(options)
    if options.output and Path(options.output).exists() and not Path(options.output).is_dir():
        raise DataError(f"--output {options.output} is a file, expected a folder.")
    if options.train_data:
        find_files(options.train_data)
    if options.max_length is not None and options.max_length < 2:
        raise DataError(f"--max-length is {options.max_length}, expected at least 2 characters.")
    if options.samples == 1 or options.samples < 0:
        raise DataError(f"--samples is {options.samples}, expected 0, or at least 2 to compare with each other.")
    if options.importance_samples < 0:
        raise DataError(f"--importance-samples is {options.importance_samples}, expected 0 or more.")
    if options.particles < 0:
        raise DataError(f"--particles is {options.particles}, expected 0 or more.")


@dataclass(frozen=True)
class Subject:
    """What is measured: a model on a text, read as documents or as a stream.

    Attributes:
        reading: fields of `DataArguments` by which every text is read.
        max_length: most characters of a document's row.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    corpus: EncodedCorpus
    reading: dict[str, Any]
    max_length: int
    options: argparse.Namespace

    @property
    def documents(self) -> bool:
        """Whether texts are read as documents."""
        return self.reading["input_mode"] == "documents"

    def rows(self) -> Iterator[Batch]:
        """The first documents, or windows of two segments from all over a stream."""
        if self.documents:
            return first_rows(split_batches(self.model, self.corpus, None, self.max_length), SHOWN_ROWS)
        return cold_batches(self.model, self.corpus, 2, SHOWN_ROWS)


def evaluate(options: argparse.Namespace) -> tuple[dict, Callable[[], Path | None]]:
    """All figures, and what writes them: it returns the card's path (None for a Hub id without `--output`)."""
    check(options)
    subject = load(options)
    figures = {"input_mode": "documents" if subject.documents else "stream"} | measure_bound(subject)
    figures |= {"parameters": subject.model.num_parameters(), "latent_size": subject.model.config.latent_size}
    figures |= memory_of_use(options.checkpoint)
    figures["baselines"] = [measure_baseline(subject, checkpoint) for checkpoint in options.baseline]
    latent_figures, posteriors = measure_latent(subject)
    texts = reconstruct(
        subject.model,
        subject.tokenizer,
        subject.rows(),
        prompt_segments=0 if subject.documents else 1,
        seed=options.seed,
    )
    figures |= latent_figures | reconstruction_figures(texts)
    samples = []
    if options.samples:
        length = subject.max_length if subject.documents else STREAM_SAMPLE_CHARACTERS
        samples = draw_samples(subject.model, subject.tokenizer, options.samples, length, options.seed)
        figures |= compare_samples(subject, samples)
    return figures, partial(write_report, subject, figures, posteriors, texts, samples)


def write_report(
    subject: Subject, figures: dict, posteriors: Posteriors | None, texts: Reconstructions, samples: list[str]
) -> Path | None:
    """Pictures and the section of the card. Raises `OSError` for a folder that cannot be written."""
    options = subject.options
    folder = Path(options.output or options.checkpoint)
    if not options.output and not folder.is_dir():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(subject, folder, figures, posteriors) if posteriors is not None else []
    name = ", ".join(Path(file).name for file in options.data)
    section = card_section(figures, name, pictures, texts, samples, collapse_warning(figures))
    return write_section(folder / "README.md", "evaluation", section)


def load(options: argparse.Namespace) -> Subject:
    """The model and the text that the options name. Raises `DataError` for another kind of model."""
    model, tokenizer = load_checkpoint(options.checkpoint, options.device)
    config = model.config
    mode = options.input_mode or ("documents" if config.latent_prior == "standard" else "stream")
    reading, max_length = reading_options(options.checkpoint, mode)
    reading |= {"text_column": options.text_column, **({"sample_by": options.sample_by} if options.sample_by else {})}
    # what one latent describes, where documents have one
    default = config.segment_length if config.latent_size > 0 and config.latent_prior == "standard" else 256
    corpus = read_corpus(options.data, reading, tokenizer)
    return Subject(model, tokenizer, corpus, reading, options.max_length or max_length or default, options)


def measure_bound(subject: Subject) -> dict:
    """The figures of `evaluate_split`; for a stream also `cold_nats` and those of `particle_bound`."""
    model, corpus, options = subject.model, subject.corpus, subject.options
    mode = "documents" if subject.documents else "stream"
    figures = evaluate_split(model, corpus, input_mode=mode, max_length=subject.max_length, seed=options.seed)
    if not subject.documents and len(corpus.ids) > COLD_WINDOW:
        figures["cold_nats"] = score_cold_windows(model, corpus, COLD_WINDOW, seed=options.seed)
    if not subject.documents and options.particles:
        figures |= particle_bound(model, corpus, options.particles, figures["rows"], options.seed)
    return figures


def measure_baseline(subject: Subject, checkpoint: str) -> dict:
    """Name, size and bound of another model on the same text, read in the same way by its own tokenizer."""
    model, tokenizer = load_checkpoint(checkpoint, subject.options.device)
    corpus = read_corpus(subject.options.data, subject.reading, tokenizer)
    baseline = replace(subject, model=model, tokenizer=tokenizer, corpus=corpus)
    figures = measure_bound(baseline)
    names = ("nats_per_character", "particle_nats", "bits_per_character", "cold_nats", "kl_per_segment")
    return {
        # of a path the last two folders, for runs are often called runs/NAME/best
        "name": "/".join(Path(checkpoint).parts[-2:]),
        "parameters": baseline.model.num_parameters(),
        "latent_size": baseline.model.config.latent_size,
        **{name: figures.get(name) for name in names},
    }


def measure_latent(subject: Subject) -> tuple[dict, Posteriors | None]:
    """The figures of `examine` and, for documents, of `importance_weighted`; and the posteriors."""
    model, corpus, options = subject.model, subject.corpus, subject.options
    rows = max(min(PARALLEL_ROWS, len(corpus.ids) // model.config.segment_length), 1)
    batches = split_batches(model, corpus, None if subject.documents else rows, subject.max_length)
    figures, posteriors = examine(model, batches, not subject.documents, EXAMINED_SEGMENTS, options.seed)
    if subject.documents and options.importance_samples:
        batches = first_rows(split_batches(model, corpus, None, subject.max_length), IMPORTANCE_DOCUMENTS)
        figures |= importance_weighted(model, batches, options.importance_samples, seed=options.seed)
    return figures, posteriors


def compare_samples(subject: Subject, samples: list[str]) -> dict[str, dict]:
    """`sample_figures` as `sampled`, what is copied None without `--train-data`; nothing, and a warning, where they
    would compare nothing."""
    options, tokenizer = subject.options, subject.tokenizer
    real = corpus_texts(subject.corpus, tokenizer)
    compared = cut_like(samples, real, options.seed)[0]
    if len(compared) < 2 or not any(compared):
        short = "the text of --data is too short for two pieces as long as the longest sample, give more of it"
        cause = short if len(compared) < 2 else "they hold no character, train longer"
        print(f"warning: the samples are not compared with held-out text: {cause}.", file=sys.stderr)
        return {}
    if options.train_data:
        training = corpus_texts(read_corpus(options.train_data, subject.reading, tokenizer), tokenizer)
        return {"sampled": sample_figures(samples, real, training, options.seed)}
    figures = sample_figures(samples, real, ["\0"], options.seed)
    return {"sampled": {kind: values | dict.fromkeys(OVERLAP_FIGURES) for kind, values in figures.items()}}


def draw_pictures(subject: Subject, folder: Path, figures: dict, posteriors: Posteriors) -> list[str]:
    """alignment.png, latent_map.png and unit_kl.png; returns the names of those that were drawn."""
    values, label = posteriors.words, "words, marks and spaces that start in the segment"
    if subject.documents:
        values, label = posteriors.characters, "characters of the document"
    draw_latent_map(folder / "latent_map.png", posteriors.mean, values, label)
    draw_unit_kl(folder / "unit_kl.png", figures["unit_kl"], subject.model.config.has_mixture_prior)
    batch = next(iter(subject.rows()), None)
    if batch is None:
        return ["latent_map.png", "unit_kl.png"]
    weights, targets = longest_alignment(subject.model, batch)
    characters = subject.tokenizer.convert_ids_to_tokens(targets.tolist())
    draw_alignment(folder / "alignment.png", weights, characters)
    return ["alignment.png", "latent_map.png", "unit_kl.png"]


if __name__ == "__main__":
    raise SystemExit(main())
