"""Long text: the bound beside two plain LSTMs, and whether the latent is heard.

    python -m benchmarks.streams --data corpus.txt --steps 1800 --seeds 1

The last 10 % of the file are held out and read as one stream with the state carried. `latent` is the recipe's model;
`same_decoder` is the same class without a latent (context and generator LSTM of the same size, what the latent needs
not counted); `equal_size` is the plain LSTM with as many parameters in all. All see the same characters. Figures:
`nats` per character: for the latent model the particle bound (`--particles`, Maddison et al. 2017), for a plain LSTM
its likelihood; `elbo`, the looser bound; `bits` per character and `bits_per_byte` belong to `nats`; `kl` and
`swap_loss` are nats per segment, the second lost when segments exchange their latents; `kl_before_fit` is the KL of
the beginning of the held-out text before the prior is fitted. In the JSON also
`above_same_decoder` and `above_equal_size`, the per cent by which `nats` of the latent model lies above each, and
`elbo_above_same_decoder`.
"""

from pathlib import Path

from benchmarks.common import (
    Trained,
    device_flags,
    over_seeds,
    parser,
    per_cent_above,
    plain_twins,
    print_json,
    print_table,
    train,
)
from boustro.evaluation.particles import particle_bound
from boustro.evaluation.scoring import evaluate_split

RECIPE = Path(__file__).parent / "streams.yaml"


def run_seed(options, seed: int) -> dict[str, dict[str, float]]:
    """Trains the three models and returns the figures of each."""
    flags = [f"--config={options.recipe}", f"--train-file={options.data}", f"--seed={seed}", *options.option]
    flags += device_flags(options.device)
    limit = f"--max-minutes={options.minutes}" if options.minutes else f"--max-steps={options.steps}"
    latent = train([*flags, limit])
    runs = {"latent": latent, **plain_twins(flags, latent, options.plain_option)}
    return {name: figures(run, options.particles, seed) for name, run in runs.items()}


def figures(run: Trained, particles: int, seed: int) -> dict[str, float]:
    """The held-out figures of one model."""
    split = evaluate_split(run.model, run.data.validation, input_mode="stream", seed=seed)
    elbo = split["nats_per_character"]
    nats = particle_bound(run.model, run.data.validation, particles, rows=split["rows"], seed=seed)["particle_nats"]
    nats = elbo if nats is None else nats
    return {
        "nats": nats,
        "elbo": elbo,
        "bits": split["bits_per_character"] * nats / elbo,
        "bits_per_byte": split["bits_per_byte"] * nats / elbo,
        "kl": split["kl_per_segment"],
        "kl_before_fit": run.kl_before_fit,
        "swap_loss": split["swap_loss_per_segment"],
        "parameters": run.model.num_parameters(),
        "characters": run.characters,
        "train_seconds": run.seconds,
    }


def comparison(models: dict[str, dict[str, float]]) -> dict[str, float]:
    """One flat row for a seed: the latent model's figures, and how far it lies above its twins."""
    latent, row = models["latent"], {}
    row["elbo_above_same_decoder"] = per_cent_above(latent["elbo"], models["same_decoder"]["elbo"])
    for name in ("same_decoder", "equal_size"):
        row[f"{name}_nats"] = models[name]["nats"]
        row[f"above_{name}"] = per_cent_above(latent["nats"], models[name]["nats"])
    return latent | row


def main() -> None:
    """Prints a row for every model and seed, then the JSON line."""
    arguments = parser("streams", __doc__, "a text file: its last 10 %% are held out")
    arguments.add_argument("--minutes", type=float, help="Training time of the latent model, instead of --steps.")
    arguments.add_argument("--steps", type=int, default=1800, help="Optimiser steps of every model.")
    arguments.add_argument("--recipe", default=str(RECIPE), help="Recipe of all models. Default: streams.yaml here.")
    arguments.add_argument("--particles", type=int, default=16, help="Particles of the bound.")
    arguments.add_argument("--option", action="append", default=[], help="Further option of train.py for all models.")
    arguments.add_argument("--plain-option", action="append", default=[], help="Further option of the plain LSTMs.")
    options = arguments.parse_args()
    seeds = [run_seed(options, seed) for seed in range(options.seeds)]
    print_table({f"{name}, seed {seed}": row for seed, models in enumerate(seeds) for name, row in models.items()})
    print_json(over_seeds([comparison(models) for models in seeds]), seeds=options.seeds, device=options.device)


if __name__ == "__main__":
    main()
