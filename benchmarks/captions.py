"""Captions, one latent a sentence: the importance-weighted bound beside two plain LSTMs, and the parts one by one.

    python -m benchmarks.captions --data train.1.en --validation val.1.en --seeds 3
    python -m benchmarks.captions --data train.1.en --validation val.1.en --epochs 4 --ablation

One sentence a line, each a document with a latent of its own and the prior N(0, I). Figures in nats per sentence on
the first `--documents` sentences of the validation file, end mark included: `nll`, for the latent model the
importance-weighted bound with `--samples` draws (Burda et al. 2016), for a plain LSTM its negative log likelihood;
`elbo`, `kl`, `mutual_information`, `swap_loss` (lost when sentences exchange their latents), `active_units`.
`same_decoder` is the plain LSTM with the same context and generator layers, `equal_size` the one with as many
parameters in all; both see the same characters.

`--ablation` trains, at equal total size: the plain LSTM; a latent that is a constant input of the generator; with the
backward decoder, whose state for each place is read at that place; and with the alignment, which is the whole model.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

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
from boustro import BoustroForCausalLM
from boustro.evaluation.latents import examine, importance_weighted
from boustro.evaluation.reading import split_batches
from boustro.evaluation.scoring import beginning, evaluate_split

RECIPE = Path(__file__).parent / "captions.yaml"
LONGEST = 256  # characters of a sentence that one latent describes


class ConstantPlan(nn.Module):
    """In place of the backward decoder: the same function of z at every place."""

    def __init__(self, latent_size: int, size: int, vocab_size: int):
        super().__init__()
        self.input = nn.Linear(latent_size, size)
        self.output = nn.Linear(size, vocab_size)

    def forward(self, latents, length):
        return torch.tanh(self.input(latents))[:, :, None].expand(-1, -1, length, -1)

    def logits(self, states):
        return self.output(states)


class SamePlace(nn.Module):
    """In place of the alignment: every place reads the plan's state for that place."""

    def forward(self, query, memory, mask=None, distance=None):
        weights = (distance == 0).to(memory.dtype)
        return weights @ memory, weights.expand(*memory.shape[:-2], *weights.shape)


def without_alignment(model: nn.Module) -> None:
    """Generator reads the backward decoder's state of its own place."""
    model.model.planner.alignment = SamePlace()


def without_backward(model: nn.Module) -> None:
    """Generator reads a function of z that is the same everywhere."""
    config = model.config
    plan = ConstantPlan(config.latent_size, config.backward_hidden_size, config.vocab_size)
    plan.apply(model._init_weights)
    plan.output.bias.data.copy_(model.lm_head.bias)  # the unigram frequencies, as the decoder in whose place it is
    model.model.planner.backward_decoder = plan
    without_alignment(model)


def widened(whole: Trained, alter: Callable[[nn.Module], None]) -> int:
    """Hidden size at which an altered model has as many parameters as the whole one."""

    def count(size: int) -> int:
        config = copy.deepcopy(whole.model.config)
        config.hidden_size = size
        model = BoustroForCausalLM(config)
        alter(model)
        return model.num_parameters()

    size, parameters = whole.model.config.hidden_size, whole.model.num_parameters()
    return min(range(size, 2 * size, 4), key=lambda wider: abs(count(wider) - parameters))


def flags_of(options, seed: int) -> list[str]:
    """The options of train.py that all models share."""
    flags = [f"--config={options.recipe}", f"--train-file={options.data}", f"--validation-file={options.validation}"]
    flags += [f"--segment-length={LONGEST}", f"--max-length={LONGEST}"]
    flags += [] if options.minutes else [f"--epochs={options.epochs}"]
    return [*flags, f"--seed={seed}", *options.option, *device_flags(options.device)]


def train_latent(options, flags: list[str]) -> Trained:
    """Trains the whole model, for `--minutes` if they are given; the models beside it take as many steps."""
    limit = [f"--max-minutes={options.minutes}"] if options.minutes else []
    return train([*flags, *limit])


def figures(run: Trained, options, seed: int) -> dict[str, float | None]:
    """The figures of one model on the first validation sentences."""
    model, corpus = run.model, run.data.validation
    count = min(options.documents, len(corpus.offsets) - 1)
    corpus = beginning(corpus, int(corpus.offsets[count]), whole_documents=True)
    split = evaluate_split(model, corpus, input_mode="documents", max_length=LONGEST, health_segments=count, seed=seed)
    batches = partial(split_batches, model, corpus, None, LONGEST)
    # a sentence longer than LONGEST is read in pieces, so rows and sentences may differ by a few
    per_sentence = split["characters"] / count
    weighted = importance_weighted(model, batches(), options.samples, seed=seed)["importance_nats"]
    examined = examine(model, batches(), False, count, seed)[0]
    return {
        "nll": split["nats_per_character"] * per_sentence if weighted is None else weighted / count,
        "elbo": split["nats_per_character"] * per_sentence,
        "kl": split["kl_per_segment"],
        "mutual_information": examined["mutual_information"],
        "swap_loss": split["swap_loss_per_segment"],
        "active_units": split["active_units"],
        "backward_nats": examined["backward_nats"],
        "parameters": model.num_parameters(),
        "characters": run.characters,
        "train_seconds": run.seconds,
    }


def comparison(models: dict[str, dict]) -> dict[str, float]:
    """One flat row for a seed: the latent model's figures, and how far it lies above its twins."""
    row = dict(models["latent"])
    for name in ("same_decoder", "equal_size"):
        row[f"{name}_nll"] = models[name]["nll"]
        row[f"above_{name}"] = per_cent_above(row["nll"], models[name]["nll"])
    return row


def compare(options, seed: int) -> dict[str, dict]:
    """The latent model and its plain twins."""
    flags = flags_of(options, seed)
    latent = train_latent(options, flags)
    runs = {"latent": latent, **plain_twins(flags, latent, options.plain_option)}
    return {name: figures(run, options, seed) for name, run in runs.items()}


def ablate(options, seed: int) -> dict[str, dict]:
    """The whole model and what is left of it, each widened to the size of the whole."""
    flags = flags_of(options, seed)
    whole = train_latent(options, flags)
    runs = {"plain": plain_twins(flags, whole, options.plain_option, ("equal_size",))["equal_size"]}
    for name, alter in (("+ latent", without_backward), ("+ backward", without_alignment)):
        runs[name] = train([*flags, f"--max-steps={whole.steps}", f"--hidden-size={widened(whole, alter)}"], alter)
    return {name: figures(run, options, seed) for name, run in {**runs, "+ alignment": whole}.items()}


def main() -> None:
    """Prints a row for every model and seed, then the JSON line."""
    arguments = parser("captions", __doc__, "training sentences, one a line", seeds=3)
    arguments.add_argument("--validation", required=True, help="validation sentences, one a line")
    arguments.add_argument("--epochs", type=float, default=8, help="Passes of every model over the sentences.")
    arguments.add_argument("--minutes", type=float, help="Training time of the whole model, instead of --epochs.")
    arguments.add_argument("--documents", type=int, default=400, help="Validation sentences that are scored.")
    arguments.add_argument("--samples", type=int, default=500, help="Draws of the importance-weighted bound.")
    arguments.add_argument("--recipe", default=str(RECIPE), help="Recipe of all models. Default: captions.yaml here.")
    arguments.add_argument("--option", action="append", default=[], help="Further option of train.py for all models.")
    arguments.add_argument("--plain-option", action="append", default=[], help="Further option of the plain LSTMs.")
    arguments.add_argument("--ablation", action="store_true", help="Compare the parts of the model instead.")
    options = arguments.parse_args()
    seeds = [(ablate if options.ablation else compare)(options, seed) for seed in range(options.seeds)]
    print_table({f"{name}, seed {seed}": row for seed, models in enumerate(seeds) for name, row in models.items()})
    if options.ablation:
        result = {name: over_seeds([models[name] for models in seeds]) for name in seeds[0]}
    else:
        result = over_seeds([comparison(models) for models in seeds])
    length = {"minutes": options.minutes} if options.minutes else {"epochs": options.epochs}
    facts = {"seeds": options.seeds, **length, "documents": options.documents}
    print_json(result, **facts, samples=options.samples, device=options.device)


if __name__ == "__main__":
    main()
