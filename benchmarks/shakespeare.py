"""tiny-shakespeare: the bound after a few minutes of training with the shipped recipe.

    python -m benchmarks.shakespeare --data input.txt --minutes 5 --seeds 1

First 90 % of the file to train, last 10 % to validate. `split_nats` reads the whole validation split with state
carried; `cold_nats` is nanoGPT's protocol, random windows of 256 that start cold. Both are nats per character of the
bound, KL included. `train_seconds` is the time of the training loop alone. Published for comparison: nanoGPT with
10.65 M parameters on a GPU 1.4697 cold, with 0.8 M parameters on a CPU 1.88 (karpathy/nanoGPT, README).
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.prepare import prepare
from boustro.evaluation.scoring import score_cold_windows
from boustro.training.run import main as train

FIGURES = ("cold_nats", "split_nats", "kl_per_segment", "swap_loss_per_segment", "parameters", "train_seconds")


def run_seed(options: argparse.Namespace, seed: int, output_dir: Path) -> dict[str, float]:
    """Trains once and returns the figures."""
    flags = [f"--train-file={options.data}", f"--output-dir={output_dir}", f"--seed={seed}"]
    flags += [f"--config={options.recipe}", f"--max-minutes={options.minutes}"]
    flags += ["--cpu"] if options.device == "cpu" else []
    code = train(flags)
    if code:
        raise SystemExit(code)
    metrics = json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(output_dir, trust_remote_code=False)
    validation = prepare(DataArguments(train_file=[options.data]), tokenizer).validation
    model = AutoModelForCausalLM.from_pretrained(output_dir).to(options.device)
    return {
        "cold_nats": score_cold_windows(model, validation, seed=seed),
        "split_nats": metrics["validation"]["nats_per_character"],
        "kl_per_segment": metrics["validation"]["kl_per_segment"],
        "swap_loss_per_segment": metrics["validation"]["swap_loss_per_segment"],
        "parameters": metrics["parameters"],
        "train_seconds": metrics["seconds"],
    }


def summary(runs: list[dict[str, float]]) -> dict:
    """Means over the seeds, and the standard deviation of the two bounds where there are several."""
    means = {name: statistics.fmean(run[name] for run in runs) for name in FIGURES}
    if len(runs) > 1:
        means |= {f"{name}_sd": statistics.stdev(run[name] for run in runs) for name in ("cold_nats", "split_nats")}
    return means | {"seeds": len(runs)}


def main() -> None:
    """Prints a row for every seed, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shakespeare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="tiny-shakespeare's input.txt")
    parser.add_argument("--minutes", type=float, default=5, help="Training time of each run.")
    parser.add_argument("--seeds", type=int, default=1, help="Runs, with the seeds 0, 1, …")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--recipe", default="shakespeare", help="Recipe to train with.")
    options = parser.parse_args()
    runs = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run_seed(options, seed, Path(folder) / "run"))
    print("seed  " + "  ".join(f"{name:>21}" for name in FIGURES))
    for seed, run in enumerate(runs):
        print(f"{seed:4}  " + "  ".join(f"{run[name]:21.4f}" for name in FIGURES))
    machine = {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__}
    print(json.dumps({**summary(runs), **machine, "minutes": options.minutes, "device": options.device}))


if __name__ == "__main__":
    main()
