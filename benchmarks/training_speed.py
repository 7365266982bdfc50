"""Speed of training beside a bare LSTM language model and beside boustro without a latent.

    python -m benchmarks.training_speed --data input.txt --recipe shakespeare --rounds 5 --steps 20

All figures but the ratios are characters per second of whole optimiser steps: batch, forward, backward, clipping,
optimiser. `full` is the recipe's model as at the end of its training; `bare` is nn.Embedding → nn.LSTM → nn.Linear
with as many layers as context and generator have together, of the same size, with the same batches, windows, carried
state, precision and optimiser; `no_latent` is boustro with `latent_size=0`. The models take turns, `--steps` steps a
round; of all rounds (of all seeds) the median, the lowest and the highest figure are printed. `full/bare` and
`no_latent/bare` are the quotients of one round; of the first a median of at least 0.6 is the target. `--profile` also
prints the 15 operations that take most of the CPU's time in the full model's steps.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common import clock, device_flags, parser, prepare_loop, print_json, print_table, take_step
from boustro import BoustroConfig
from boustro.data_scripts.batches import IGNORE_INDEX
from boustro.training.loop import TrainingLoop
from boustro.training.optimizer import build_optimizer

WARM_UP_STEPS = 5
PROFILED_OPERATIONS = 15


class BareModel(nn.Module):
    """A character LSTM language model as short as torch allows. `forward(ids, state)`: (B, T) → (B, T, V), state."""

    def __init__(self, config: BoustroConfig):
        super().__init__()
        layers = config.num_context_layers + config.num_generator_layers
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size, layers, batch_first=True)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, ids: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None):
        hidden, state = self.lstm(self.embedding(ids), state)
        return self.output(hidden), state


class BareTraining:
    """Trains a `BareModel` on the batches of a loop, with its optimiser and precision."""

    def __init__(self, loop: TrainingLoop):
        self.batches, self.accelerator, self.args = loop.batches, loop.accelerator, loop.args
        self.model = BareModel(loop.raw_model.config).to(loop.accelerator.device)
        self.optimizer = build_optimizer(
            self.model,
            self.args.optimizer,
            self.args.learning_rate,
            self.args.muon_learning_rate,
            self.args.weight_decay,
            (self.args.adam_beta1, self.args.adam_beta2),
        )
        self.done, self.state = 0, None

    def step(self) -> int:
        """One optimiser step; returns the characters it trained on."""
        epoch, index = divmod(self.done, self.batches.steps)
        batch = self.batches.batch(epoch, index)
        tensors = batch.tensors(slice(None), self.accelerator.device)
        with self.accelerator.autocast():
            logits, state = self.model(tensors["input_ids"], None if index == 0 else self.state)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tensors["target_ids"].flatten(), reduction="sum")
        self.accelerator.backward(loss / batch.normaliser)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state = tuple(part.detach() for part in state) if self.batches.carries_state else None
        self.done += 1
        return int((batch.target_ids != IGNORE_INDEX).sum())


def build_loop(options, seed: int, *flags: str) -> TrainingLoop:
    """A loop of the recipe that takes the steps of the end of the training from the first one on."""
    steps = WARM_UP_STEPS + options.rounds * options.steps
    flags = [f"--config={options.recipe}", f"--train-file={options.data}", f"--seed={seed}", *flags]
    loop, _ = prepare_loop(
        [*flags, f"--max-steps={steps}", "--latent-warmup-fraction=0", *device_flags(options.device)]
    )
    return loop


def measure(options, seed: int) -> list[dict[str, float]]:
    """Characters per second of every model in every round."""
    full = build_loop(options, seed)
    takers = {
        "full": partial(take_step, full),
        "bare": BareTraining(full).step,
        "no_latent": partial(take_step, build_loop(options, seed, "--latent-size=0")),
    }
    for step in takers.values():
        speed(step, WARM_UP_STEPS, options.device)
    rounds, started = [], clock(options.device)
    for _ in range(options.rounds):
        row = {name: speed(step, options.steps, options.device) for name, step in takers.items()}
        rounds.append(row | {f"{name}/bare": row[name] / row["bare"] for name in ("full", "no_latent")})
        if options.minutes is not None and clock(options.device) - started >= 60 * options.minutes:
            break
    return rounds


def speed(step: Callable[[], int], steps: int, device: str) -> float:
    """Characters per second of some steps."""
    started = clock(device)
    characters = sum(step() for _ in range(steps))
    return characters / (clock(device) - started)


def profile(options) -> str:
    """The table of torch's profiler for the steps of the full model, after a warm-up."""
    loop = build_loop(options, seed=0)
    for _ in range(WARM_UP_STEPS):
        loop.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(options.steps):
            loop.step()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=PROFILED_OPERATIONS)


def main() -> None:
    """Prints a row for every model and ratio, then the JSON line."""
    arguments = parser("training_speed", __doc__, "a text file")
    arguments.add_argument("--recipe", default="shakespeare", help="Recipe of the full model.")
    arguments.add_argument("--rounds", type=int, default=5, help="Turns of every model, for each seed.")
    arguments.add_argument("--steps", type=int, default=20, help="Optimiser steps of a turn.")
    arguments.add_argument("--minutes", type=float, help="No further round of a seed after these. Default: no limit.")
    arguments.add_argument("--profile", action="store_true", help="Print the costliest operations of the full model.")
    options = arguments.parse_args()
    rounds = [row for seed in range(options.seeds) for row in measure(options, seed)]
    summaries = {"median": statistics.median, "lowest": min, "highest": max}
    rows = {
        name: {label: take([row[name] for row in rounds]) for label, take in summaries.items()} for name in rounds[0]
    }
    if options.profile:
        print(profile(options))
    print_table(rows)
    facts = {name: getattr(options, name) for name in ("seeds", "rounds", "minutes", "steps", "device")}
    print_json(rows, turns=len(rounds), **facts)


if __name__ == "__main__":
    main()
