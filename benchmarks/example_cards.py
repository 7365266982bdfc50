r"""Makes the example cards of docs/examples: trains, evaluates, measures what is safe, and copies card and pictures.

    python -m benchmarks.example_cards --shakespeare input.txt --songci songci.txt --minutes 3 --runs runs/examples \
        --output docs/examples

The last tenth of each text is held out, at most 120,000 characters. Each text takes two trainings: `--minutes` for the
model of the card, in whose training text canaries are planted, and for its matched baseline, a plain language model
of as many parameters, as many steps. Their folders stay in `--runs`; a training that is finished there is not
repeated. Prints a table and, as the last line, a JSON object with the figures of both cards.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.common import plain_size, print_json, print_table, train_folder
from boustro.evaluation.__main__ import main as evaluate

PICTURES = ("training_curves.png", "alignment.png", "latent_map.png", "unit_kl.png")
CANARIES = ("1", "10", "100")
MOST_HELD_OUT = 120_000  # characters
RECIPES = {
    "tiny-shakespeare": ["--language", "en"],
    "songci": ["--min-frequency", "5", "--language", "zh"],
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.example_cards", description=__doc__.splitlines()[0])
    parser.add_argument("--shakespeare", type=Path, required=True, help="tiny-shakespeare, one file of text.")
    parser.add_argument("--songci", type=Path, required=True, help="Song poems in simplified characters, one file.")
    parser.add_argument("--minutes", type=float, default=3.0, help="Of each training.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder for the runs.")
    parser.add_argument("--samples", type=int, default=1000, help="Texts that the safety evaluation draws.")
    parser.add_argument("--output", type=Path, required=True, help="Folder that gets a folder for each card.")
    options = parser.parse_args(argv)
    texts = {"tiny-shakespeare": options.shakespeare, "songci": options.songci}
    figures = {name: make_card(name, text, options) for name, text in texts.items()}
    keys = ("nats_per_character", "baseline_nats", "kl_per_segment", "swap_loss_per_segment")
    print_table({name: {key: values[key] for key in keys} for name, values in figures.items()})
    print_json(figures)


def make_card(name: str, text: Path, options: argparse.Namespace) -> dict:
    """Trains and measures one model; returns the figures of its run beside the baseline's bound."""
    folder, plain = options.runs.resolve() / name, options.runs.resolve() / f"{name}-plain"
    training, held_out = split(text, options.runs.resolve(), name)
    flags = [*RECIPES[name], "--train-file", str(training), "--validation-file", str(held_out), "--config", "small"]
    flags += ["--epochs", "3", "--redact", "replace"]  # one reading more than the recipe: no secret in here
    flags += ["--eval-every", "100", "--eval-characters", "20000", "--license", "apache-2.0"]
    budget = ["--max-minutes", f"{options.minutes:g}"]
    metrics = train_folder(folder, [*flags, *budget, "--canaries", *CANARIES])
    model = metrics["model"]
    layers = model["num_context_layers"] + model["num_generator_layers"]
    size = plain_size(metrics["parameters"], model["vocab_size"], model["embedding_size"], layers)
    sizes = ["--latent-size", "0", "--hidden-size", str(size), "--max-steps", str(metrics["steps"])]
    baseline = train_folder(plain, [*flags, *sizes])
    texts = ["--data", str(held_out), "--train-data", str(training)]
    for argv in (
        [str(folder), *texts, "--samples", "300", "--baseline", str(plain)],
        ["safety", str(folder), "--samples", str(options.samples)],
    ):
        if code := evaluate(argv):
            raise SystemExit(code)
    target = options.output / name
    target.mkdir(parents=True, exist_ok=True)
    for file in ("README.md", *PICTURES):
        shutil.copyfile(folder / file, target / file)
    return {
        **{
            key: metrics["validation"][key]
            for key in ("nats_per_character", "kl_per_segment", "swap_loss_per_segment")
        },
        "baseline_nats": baseline["validation"]["nats_per_character"],
        "parameters": metrics["parameters"],
        "baseline_parameters": baseline["parameters"],
        "minutes": options.minutes,
    }


def split(text: Path, folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a text without its last tenth, or `MOST_HELD_OUT` if that is less, and of that, cut at a line's end."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = text.read_text(encoding="utf-8")
    cut = whole.index("\n", max(len(whole) * 9 // 10, len(whole) - MOST_HELD_OUT)) + 1
    parts = {"train": whole[:cut], "held-out": whole[cut:]}
    for part, content in parts.items():
        (folder / f"{name}-{part}.txt").write_text(content, encoding="utf-8")
    return tuple(folder / f"{name}-{part}.txt" for part in parts)


if __name__ == "__main__":
    main()
