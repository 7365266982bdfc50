"""Seconds of training until a validation loss of 1.88 nats per character, boustro beside a small GPT.

    python -m benchmarks.time_to_loss --data input.txt --recipe tiny --steps 350 --seeds 1

1.88 is what karpathy/nanoGPT's README states for its CPU configuration on tiny-shakespeare, and that configuration is
the GPT here: 4 layers, 4 heads, 128 wide, windows of 64, 2000 steps of batch 12 (0.8 M parameters). First 90 % of the
characters to train, last 10 % to validate. Both models are scored on the same 400 random cold windows of 64 characters
of the validation text, all 64 of them predicted; boustro's figure is the bound, KL included. The GPT trains to its
end, boustro stops at the target or after `--steps` steps. Figures of each model: `seconds`, `steps` and `characters`
trained until the target (None if it was not reached), `all_seconds` of the whole training, `nats` per character at its
end. `boustro/gpt` is the quotient of the seconds to the target (at most 1/3 is the target; if the GPT did not reach
1.88, all its seconds are taken, if boustro did not, there is none). `--minutes` ends either training early.
Preparation and validation are in no clock. Seeds change the weights, the batches and the windows.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.common import (
    clock,
    device_flags,
    over_seeds,
    parser,
    prepare_loop,
    print_json,
    print_table,
    take_step,
)
from boustro.data_scripts.prepare import PreparedData
from boustro.evaluation.scoring import score_cold_windows
from boustro.training.loop import TrainingLoop

TARGET = 1.88  # nats per character
WINDOW, VALIDATION_WINDOWS = 64, 400
GPT_BATCH, GPT_STEPS, GPT_WARM_UP = 12, 2000, 100
GPT_PEAK, GPT_LAST = 1e-3, 1e-4  # learning rates
GPT_EVAL_EVERY, BOUSTRO_EVAL_EVERY = 100, 10  # steps


class GPTTraining:
    """nanoGPT's CPU configuration (its README and config/train_shakespeare_char.py), the model from transformers.

    It reads the ids of `data`, renumbered so that the vocabulary holds the characters of the file and nothing else.
    """

    def __init__(self, data: PreparedData, seed: int, device: str):
        set_seed(seed)
        vocabulary, ids = np.unique(np.concatenate([data.train.ids, data.validation.ids]), return_inverse=True)
        self.train_ids, self.validation_ids = np.split(ids, [len(data.train.ids)])
        self.seed, self.device, self.done = seed, device, 0
        self.rng = np.random.default_rng([seed, 1])
        config = GPT2Config(
            vocab_size=len(vocabulary),
            n_positions=WINDOW,
            n_embd=128,
            n_layer=4,
            n_head=4,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
        self.model = GPT2LMHeadModel(config).to(device)
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=GPT_PEAK, betas=(0.9, 0.99), fused=True)

    def step(self) -> int:
        """One optimiser step on random windows; returns the characters it trained on."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = gpt_learning_rate(self.done)
        starts = self.rng.integers(len(self.train_ids) - WINDOW, size=GPT_BATCH)
        self._loss(self.train_ids, starts).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1
        return GPT_BATCH * WINDOW

    @torch.no_grad()
    def validate(self) -> float:
        """Nats per character of the windows that `score_cold_windows` draws from the same seed."""
        self.model.eval()
        rng = np.random.default_rng(self.seed)
        starts = rng.integers(len(self.validation_ids) - WINDOW, size=VALIDATION_WINDOWS)
        return float(self._loss(self.validation_ids, starts))

    def _loss(self, ids: np.ndarray, starts: np.ndarray) -> torch.Tensor:
        index = starts[:, None] + np.arange(WINDOW)
        inputs, targets = (torch.from_numpy(ids[index + shift]).to(self.device) for shift in (0, 1))
        # as nanoGPT: bf16 on a GPU, float32 on a CPU
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            logits = self.model(inputs).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def gpt_learning_rate(step: int) -> float:
    """nanoGPT's schedule: linear warm-up, then a cosine from the peak to the last learning rate."""
    if step < GPT_WARM_UP:
        return GPT_PEAK * (step + 1) / (GPT_WARM_UP + 1)
    along = (step - GPT_WARM_UP) / (GPT_STEPS - GPT_WARM_UP)
    return GPT_LAST + 0.5 * (1 + math.cos(math.pi * along)) * (GPT_PEAK - GPT_LAST)


def validate_boustro(loop: TrainingLoop, data: PreparedData, seed: int) -> float:
    """The bound on the validation windows; the model is left in training mode."""
    nats = score_cold_windows(loop.raw_model, data.validation, WINDOW, VALIDATION_WINDOWS, seed)
    loop.raw_model.train()
    return nats


def train_to_target(
    step: Callable[[], int],
    validate: Callable[[], float],
    steps: int,
    every: int,
    stop: bool,
    device: str,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Takes `steps` steps, or what `minutes` hold; validates after `every`; with `stop` ends at the target."""
    validate()  # the first call warms the device up
    seconds, characters, reached = 0.0, 0, dict.fromkeys(("seconds", "steps", "characters"))
    for number in range(1, steps + 1):
        started = clock(device)
        characters += step()
        seconds += clock(device) - started
        done = number == steps or (minutes is not None and seconds >= 60 * minutes)
        if number % every == 0 or done:
            nats = validate()
            if nats <= TARGET and reached["steps"] is None:
                reached = {"seconds": seconds, "steps": number, "characters": characters}
                done = done or stop
        if done:
            break
    return reached | {"all_seconds": seconds, "nats": nats}


def run_seed(options, seed: int) -> dict[str, dict[str, Any]]:
    """Trains both models and returns the figures of each."""
    flags = [f"--config={options.recipe}", f"--train-file={options.data}", "--input-mode=stream", f"--seed={seed}"]
    flags += ["--validation-fraction=0.1", f"--max-steps={options.steps}", *device_flags(options.device)]
    loop, data = prepare_loop(flags)
    gpt = GPTTraining(data, seed, options.device)
    limits = {"device": options.device, "minutes": options.minutes}
    rows = {"gpt": train_to_target(gpt.step, gpt.validate, GPT_STEPS, GPT_EVAL_EVERY, False, **limits)}
    set_seed(seed)
    step, validate = partial(take_step, loop), partial(validate_boustro, loop, data, seed)
    rows["boustro"] = train_to_target(step, validate, options.steps, BOUSTRO_EVAL_EVERY, True, **limits)
    return rows


def comparison(models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One flat row for a seed: the figures of both models and the quotient of their seconds."""
    row = {f"{name}_{key}": value for name, figures in models.items() for key, value in figures.items()}
    own, other = models["boustro"]["seconds"], models["gpt"]["seconds"] or models["gpt"]["all_seconds"]
    return row | {"boustro/gpt": None if own is None else own / other}


def main() -> None:
    """Prints a row for every model and seed, then the JSON line: every seed's figures, and means of complete ones."""
    arguments = parser("time_to_loss", __doc__, "a text file such as tiny-shakespeare's input.txt")
    arguments.add_argument("--recipe", default="tiny", help="Recipe of boustro.")
    arguments.add_argument("--steps", type=int, default=350, help="Optimiser steps of boustro; its schedules follow.")
    arguments.add_argument("--minutes", type=float, help="Training time of each model at most. Default: no limit.")
    options = arguments.parse_args()
    seeds = [run_seed(options, seed) for seed in range(options.seeds)]
    runs = [comparison(models) for models in seeds]
    complete = [name for name in runs[0] if all(run[name] is not None for run in runs)]
    print_table({f"{name}, seed {seed}": row for seed, models in enumerate(seeds) for name, row in models.items()})
    means = over_seeds([{name: run[name] for name in complete} for run in runs])
    print_json(
        means,
        runs=runs,
        target=TARGET,
        seeds=options.seeds,
        steps=options.steps,
        minutes=options.minutes,
        device=options.device,
    )


if __name__ == "__main__":
    main()
