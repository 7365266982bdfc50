"""Measures what a checkpoint gives away and repeats: memorisation, personal data, bias, toxicity.

    python -m boustro.evaluation safety runs/demo
    python -m boustro.evaluation safety user/name --train-data mytext.txt --output reports/name

The training text is found by the options that the run's folder keeps (arguments.json), or is given. Prints sentences
and, as its last line, one JSON object with the same figures, and puts the sentences into the section of the card.
"""

import argparse
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.canaries import Canary
from boustro.data_scripts.errors import DataError, as_written
from boustro.data_scripts.files import check_checkpoint
from boustro.data_scripts.prepare import prepare
from boustro.evaluation.bias import counterfactual_bias
from boustro.evaluation.canaries import CANDIDATES, exposures
from boustro.evaluation.checkpoint import load_checkpoint
from boustro.evaluation.options import check_device_and_seed
from boustro.evaluation.privacy import personal_data
from boustro.evaluation.reading import corpus_texts, read_corpus, reading_options
from boustro.evaluation.report import write_section
from boustro.evaluation.safety_report import printed, redaction_counts, safety_section
from boustro.evaluation.samples import cut_like, draw_samples
from boustro.evaluation.toxicity import BLOCKLIST, blocklist_hits, read_blocklist
from boustro.evaluation.verbatim_overlap import VerbatimOverlap


@dataclass(frozen=True)
class Texts:
    """What the model was trained on and what it was not, as far as it is at hand.

    Attributes:
        training, held_out: texts, or None.
    """

    training: list[str] | None = None
    held_out: list[str] | None = None


@dataclass(frozen=True)
class Run:
    """What is known of the training that made the model.

    Attributes:
        canaries: that were planted in its text, or None.
        redacted: findings by kind of what was redacted there, or None.
        train_characters: of that text, or None.
    """

    canaries: list[Canary] | None = None
    redacted: dict[str, int] | None = None
    train_characters: int | None = None


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0; 1 if the figures are printed, but not written; 2 after an error of the user's,
    printed as one sentence."""
    options = parse(argv)
    try:
        figures = measure(options)
    except (OSError, ValueError) as error:
        print(f"boustro: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(printed(figures))
    folder, code = Path(options.output or options.checkpoint), 0
    try:
        if options.output:
            folder.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            print(f"written: {write_section(folder / 'README.md', 'safety', safety_section(figures))}")
        else:
            print("nothing written: give --output for a checkpoint of the Hub.")
    except OSError as error:
        print(f"nothing written ({error}): give another folder as --output.")
        code = 1
    print(json.dumps(figures, ensure_ascii=False))
    return code


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(prog="python -m boustro.evaluation safety", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="Folder or Hub id of a boustro model.")
    parser.add_argument(
        "--train-data", nargs="+", help="The training text (files or globs). Default: what the run's folder names."
    )
    parser.add_argument("--data", nargs="+", help="Held-out text beside --train-data, as a yardstick for copies.")
    parser.add_argument("--text-column", default="text", help="Column that holds the text.")
    parser.add_argument("--samples", type=int, default=1000, help="How many texts to draw from the model.")
    parser.add_argument("--sample-characters", type=int, default=300, help="Length of each at most.")
    parser.add_argument("--blocklist", default=str(BLOCKLIST), help="File of words, one a line. Default: a short one.")
    parser.add_argument(
        "--candidates", type=int, default=CANDIDATES, help="Secrets with which each planted canary is compared."
    )
    parser.add_argument("--output", help="Folder whose README.md gets the section. Default: the checkpoint's.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of everything that is drawn.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures; those that could not be measured are None."""
    check_checkpoint(options.checkpoint)
    check_device_and_seed(options)
    for name in ("samples", "sample_characters", "candidates"):
        if getattr(options, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} is {getattr(options, name)}, expected at least 1.")
    if options.data and not options.train_data:
        raise DataError("--data is given without --train-data: give both, or neither to use the run's own text.")
    blocklist = read_blocklist(options.blocklist)
    model, tokenizer = load_checkpoint(options.checkpoint, options.device)
    run = read_run(options.checkpoint)
    texts = find_texts(options, model, tokenizer, run)
    samples = draw_samples(model, tokenizer, options.samples, options.sample_characters, options.seed)
    return {
        "memorisation": measure_copies(samples, texts, options.seed),
        "canaries": run.canaries and exposures(model, tokenizer, run.canaries, options.candidates, options.seed),
        "redacted": run.redacted,
        "privacy": personal_data(samples, texts.training),
        "bias": counterfactual_bias(model, tokenizer),
        "toxicity": {
            "samples": blocklist_hits(samples, blocklist),
            "training": None if texts.training is None else blocklist_hits(texts.training, blocklist),
        },
    }


def read_run(checkpoint: str) -> Run:
    """What the folder or repository tells of its run. Raises `DataError` where training did not write that."""
    path = cached_file(checkpoint, "metrics.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        return Run()
    with as_written(path):
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
        planted, redacted = metrics.get("data", {}).get("canaries"), redaction_counts(metrics)
        canaries = None if planted is None else [Canary(**canary) for canary in planted]
        return Run(canaries, None if redacted is None else dict(redacted), metrics.get("train_characters"))


def find_texts(
    options: argparse.Namespace, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, run: Run
) -> Texts:
    """Training and held-out text: as given, else as the run prepared them; none, and a warning, if they are gone."""
    if options.train_data:
        mode = "documents" if model.config.latent_prior == "standard" else "stream"
        reading = reading_options(options.checkpoint, mode)[0] | {"text_column": options.text_column}
        read = [
            corpus_texts(read_corpus(files, reading, tokenizer), tokenizer) if files else None
            for files in (options.train_data, options.data)
        ]
        return Texts(*read)
    path = Path(options.checkpoint) / "arguments.json"
    if not path.is_file():
        print("warning: the training text is not known, give it by --train-data.", file=sys.stderr)
        return Texts()
    names = {field.name for field in fields(DataArguments)}
    with as_written(path):
        stored = json.loads(path.read_text(encoding="utf-8"))
        seed, chosen = stored["seed"], {name: value for name, value in stored.items() if name in names}
    try:
        data = prepare(DataArguments(**chosen), tokenizer, seed)
    except DataError as error:
        print(f"warning: the training text is not to be had ({error}); give it by --train-data.", file=sys.stderr)
        return Texts()
    if run.train_characters not in (None, data.train.characters):
        print(
            f"warning: the training text has {data.train.characters:,} characters, it had {run.train_characters:,} "
            "when the model was trained; give the right one by --train-data.",
            file=sys.stderr,
        )
        return Texts()
    return Texts(corpus_texts(data.train, tokenizer), corpus_texts(data.validation, tokenizer))


def measure_copies(samples: list[str], texts: Texts, seed: int) -> dict[str, Any] | None:
    """`VerbatimOverlap` of the samples, and of as many pieces of held-out text of the same lengths."""
    if texts.training is None or not any(samples):
        return None
    pieces = cut_like(samples, texts.held_out, seed)[1] if texts.held_out else []
    metric = VerbatimOverlap(keep_in_memory=True)
    found = {}
    for name, compared in (("samples", samples), ("held_out", pieces)):
        if not any(compared):
            found[name] = None
            continue
        figures = metric.compute(predictions=compared, training_texts=texts.training)
        found[name] = {"texts": len(compared), "longest": max(map(len, compared)), **figures}
    return found
