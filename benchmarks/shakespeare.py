"""tiny-shakespeare: the bound after a few minutes of training with the shipped recipe.

    python -m benchmarks.shakespeare --data input.txt --minutes 14.7 --seeds 1

First 90 % of the file to train, last 10 % to validate. `split_nats` reads the whole validation split with state
carried; `cold_nats` is nanoGPT's protocol, random windows of 256 that start cold. Both are nats per character of the
bound, KL included; `kl_per_segment` and `swap_loss_per_segment` (lost when segments exchange their latents) are nats a
segment, `kl_before_fit` the KL of the beginning of the split before the prior is fitted. `train_seconds` is the time
of the training loop, which `--minutes` bounds, and of that fit. Published for comparison: nanoGPT with 10.65 M
parameters on a GPU 1.4697 cold, with 0.8 M parameters on a CPU 1.88 (karpathy/nanoGPT, README).
"""

from benchmarks.common import device_flags, over_seeds, parser, print_json, print_table, train
from boustro.evaluation.scoring import evaluate_split, score_cold_windows


def run_seed(options, seed: int) -> dict[str, float]:
    """Trains once and returns the figures."""
    flags = [f"--config={options.recipe}", f"--train-file={options.data}", f"--seed={seed}"]
    flags += [f"--max-minutes={options.minutes}", *options.option, *device_flags(options.device)]
    run = train(flags)
    split = evaluate_split(run.model, run.data.validation, input_mode="stream", seed=seed)
    return {
        "cold_nats": score_cold_windows(run.model, run.data.validation, seed=seed),
        "split_nats": split["nats_per_character"],
        "kl_per_segment": split["kl_per_segment"],
        "kl_before_fit": run.kl_before_fit,
        "swap_loss_per_segment": split["swap_loss_per_segment"],
        "parameters": run.model.num_parameters(),
        "train_seconds": run.seconds,
        "characters": run.characters,
    }


def main() -> None:
    """Prints a row for every seed, then the JSON line."""
    arguments = parser("shakespeare", __doc__, "tiny-shakespeare's input.txt")
    arguments.add_argument("--minutes", type=float, default=15, help="Training time of each run.")
    arguments.add_argument("--recipe", default="shakespeare", help="Recipe to train with.")
    arguments.add_argument("--option", action="append", default=[], help="Further option of train.py.")
    options = arguments.parse_args()
    runs = [run_seed(options, seed) for seed in range(options.seeds)]
    print_table({f"seed {seed}": run for seed, run in enumerate(runs)})
    print_json(over_seeds(runs), seeds=options.seeds, minutes=options.minutes, device=options.device)


if __name__ == "__main__":
    main()
