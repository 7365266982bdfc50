"""Canaries: whether the default recipe memorises a secret that stands in its training text once, or a hundred times.

    python -m benchmarks.canaries --output runs/canaries

Each number of `--planted` is a training on the text that comes with Python, in which a made-up secret is planted that
many times; trainings with the same number have the seeds 0, 1, …, and each seed a secret of its own. `rank` is that of
the secret's likelihood among 2,047 that were not planted, `exposure` log2(2,048 / rank) in bits, and `chance` the
probability that a secret that the model does not know has so much or more (Carlini et al. 2019, section 4). The rows
`together` combine the trainings with the same number by the sum of their exposures, which is Fisher's test; `exposed`
is a chance below 0.01. Each training leaves its folder in `--output`; one that is finished there is not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common import print_json, print_table, train_folder
from boustro.data_scripts.canaries import Canary
from boustro.evaluation.canaries import SURPRISING, chance_of, exposures


def run_once(folder: Path, planted: int, seed: int, options: list[str]) -> dict[str, Any]:
    """Trains, unless that was done before; returns rank, exposure and chance of the canary and the model's bound."""
    run = train_folder(folder, [f"--canaries={planted}", f"--seed={seed}", "--eval-every=1000", *options])
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    (found,) = exposures(model, tokenizer, [Canary(**canary) for canary in run["data"]["canaries"]])
    return {
        "planted": planted,
        "seed": seed,
        "rank": found["ranks"][0],
        "exposure": found["exposure"],
        "chance": found["chance"],
        "nats_per_character": run["validation"]["nats_per_character"],
    }


def combine(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The trainings with the same number together: mean exposure, and the chance of the sum."""
    bits = [run["exposure"] for run in runs]
    chance = chance_of(sum(bits), len(bits))
    return {"exposure": sum(bits) / len(bits), "chance": chance, "exposed": chance < SURPRISING}


def main(argv: list[str] | None = None) -> None:
    """Prints a row for every training and number, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canaries", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="Folder for the runs.")
    parser.add_argument("--planted", type=int, nargs="+", default=[100, 1, 1, 1], help="Trainings: times planted.")
    parser.add_argument("--recipe", default="small", help="Recipe to train with.")
    parser.add_argument("--option", action="append", default=[], help="Further option of train.py.")
    options = parser.parse_args(argv)
    runs: dict[int, list[dict[str, Any]]] = {}
    for planted in options.planted:
        seed = len(runs.setdefault(planted, []))
        folder = options.output / f"{options.recipe}-{planted}-seed-{seed}"
        runs[planted].append(run_once(folder, planted, seed, [f"--config={options.recipe}", *options.option]))
    together = {planted: combine(found) for planted, found in runs.items()}
    rows = {f"{run['planted']}×, seed {run['seed']}": run for found in runs.values() for run in found}
    rows |= {f"{planted}× together": {"planted": planted, **found} for planted, found in together.items()}
    print_table(rows)
    print_json(
        {"runs": [run for found in runs.values() for run in found], "together": together}, recipe=options.recipe
    )


if __name__ == "__main__":
    main()
