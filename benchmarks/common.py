"""What the benchmarks share: a training run in one call, figures over seeds, the table and the JSON line."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from safetensors.torch import load_model
from transformers.utils import logging

from boustro import BoustroForCausalLM
from boustro.data_scripts.prepare import PreparedData, prepare
from boustro.training.arguments import ARGUMENTS_FILE, option_defaults, parse_arguments
from boustro.training.checkpoint import RunState
from boustro.training.loop import TrainingLoop
from boustro.training.run import (
    build_accelerator,
    build_batches,
    build_model,
    finish_prior,
    score_while_training,
)

TRAIN_SCRIPT = Path(__file__).parent.parent / "train.py"


@dataclass
class Trained:
    """A model with its best weights and a fitted prior, the data it was trained on and what the training took, the fit
    included. `prior_fit` is what the fit did, None for a prior that is not fitted."""

    model: BoustroForCausalLM
    data: PreparedData
    seconds: float
    steps: int
    characters: int
    prior_fit: dict[str, Any] | None = None

    @property
    def kl_before_fit(self) -> float | None:
        """The KL before the fit, nats per segment of the beginning of the validation text."""
        return self.prior_fit and self.prior_fit["kl_before"]


def train(flags: list[str], alter: Callable[[BoustroForCausalLM], None] | None = None) -> Trained:
    """Trains as `train.py` does with these options, without card and samples; `alter` may change the new model."""
    with tempfile.TemporaryDirectory() as folder:
        loop, data = prepare_loop([*flags, f"--output-dir={folder}"], alter)
        if not loop.train():
            raise SystemExit("stopped: a benchmark cannot be resumed.")
        model = loop.accelerator.unwrap_model(loop.model, keep_fp32_wrapper=False)
        load_model(model, Path(folder) / "best" / "model.safetensors")
    started = time.perf_counter()
    fitted = finish_prior(model, loop, data, loop.args.seed)
    seconds = loop.state.seconds + time.perf_counter() - started
    characters = round(loop.state.step / loop.batches.steps * data.train.characters)
    return Trained(model.eval(), data, seconds, loop.state.step, characters, fitted)


def prepare_loop(
    flags: list[str], alter: Callable[[BoustroForCausalLM], None] | None = None
) -> tuple[TrainingLoop, PreparedData]:
    """A training loop that has not begun, as `train.py` would set it up, and its data."""
    logging.disable_progress_bar()
    arguments = parse_arguments(flags)
    accelerator = build_accelerator(arguments)
    set_seed(arguments.train.seed)
    data = prepare(arguments.data, seed=arguments.train.seed)
    model = build_model(arguments.model, data)
    if alter is not None:
        alter(model)
    loop = TrainingLoop(
        model=model,
        tokenizer=data.tokenizer,
        batches=build_batches(arguments, data, model.config),
        evaluate=partial(score_while_training, arguments=arguments, corpus=data.validation),
        args=arguments.train,
        accelerator=accelerator,
        state=RunState(),
    )
    return loop, data


def train_folder(folder: Path, flags: list[str]) -> dict[str, Any]:
    """Runs train.py with these options into a folder, unless it holds the finished run; returns its metrics. Stops if
    that run had other options."""
    metrics, flags = folder / "metrics.json", [*flags, "--output-dir", str(folder)]
    if metrics.is_file():
        check_options(folder, flags)
        return json.loads(metrics.read_text(encoding="utf-8"))
    flags += ["--overwrite-output-dir"] if folder.exists() else []
    # a process of its own, whose peak of memory is that of the training
    if code := subprocess.run([sys.executable, str(TRAIN_SCRIPT), *flags]).returncode:
        raise SystemExit(code)
    return json.loads(metrics.read_text(encoding="utf-8"))


def check_options(folder: Path, flags: list[str]) -> None:
    """Raises `SystemExit` with a sentence if the run in a folder had other options than these."""
    # an option that the run's version did not have was at its default; one that only that version had differs
    stored = option_defaults() | json.loads((folder / ARGUMENTS_FILE).read_text(encoding="utf-8"))
    wanted = parse_arguments(flags).as_dict()
    for name in sorted(stored.keys() - {"overwrite_output_dir", "resume", "given", "command", "hub_token"}):
        found, value = stored[name], wanted.get(name)
        if found != value:
            raise SystemExit(f"{folder} holds a run with {name} {found!r}, expected {value!r}: delete it.")


def take_step(loop: TrainingLoop) -> int:
    """One optimiser step of a loop; returns the characters it trained on."""
    before = loop.session_characters
    loop.step()
    return round(loop.session_characters - before)


def clock(device: str) -> float:
    """Seconds on a clock that is read only when the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def parser(
    module: str, doc: str, data: str, seeds: int | None = 1, devices: tuple[str, ...] = ("cpu", "cuda")
) -> argparse.ArgumentParser:
    """The options that benchmarks share; `data` says what --data expects. Without `seeds` there is no --seeds, with a
    single one of `devices` no --device."""
    options = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=doc.splitlines()[0])
    options.add_argument("--data", required=True, help=data)
    if seeds is not None:
        options.add_argument("--seeds", type=int, default=seeds, help="Runs, with the seeds 0, 1, …")
    if len(devices) > 1:
        options.add_argument("--device", default=devices[0], choices=devices, type=present)
    return options


def present(device: str) -> str:
    """The value of --device. Raises `ArgumentTypeError` for a GPU where torch finds none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("cuda: torch finds no GPU here, expected cpu; leave --device out")
    return device


def plain_twins(
    flags: list[str], latent: Trained, options: list[str], names: tuple[str, ...] = ("same_decoder", "equal_size")
) -> dict[str, Trained]:
    r"""
    The plain LSTMs of these names to compare a latent model with, trained on as many characters, with `options` of
    their own.

    `same_decoder`: context and generator LSTM of the same size, what the latent needs not counted (the comparison of
    the VAE literature). `equal_size`: as many parameters in all.
    """
    config = latent.model.config
    layers = config.num_context_layers + config.num_generator_layers
    size = plain_size(latent.model.num_parameters(), config.vocab_size, config.embedding_size, layers)
    sizes = {"same_decoder": config.hidden_size, "equal_size": size}
    flags = [*flags, "--latent-size=0", f"--max-steps={latent.steps}", *options]
    return {name: train([*flags, f"--hidden-size={sizes[name]}"]) for name in names}


def per_cent_above(value: float, baseline: float) -> float:
    """By how many per cent `value` lies above `baseline`."""
    return 100 * (value / baseline - 1)


def device_flags(device: str) -> list[str]:
    """The option of train.py for a device."""
    return ["--cpu"] if device == "cpu" else []


def plain_size(parameters: int, vocab_size: int, embedding_size: int, layers: int) -> int:
    """Hidden size of the plain LSTM of `layers` layers whose parameters come nearest to `parameters`."""

    def count(size: int) -> int:
        lstm = 4 * size * (embedding_size + size + 2) + (layers - 1) * 4 * size * (2 * size + 2)
        return vocab_size * embedding_size + lstm + (size + 1) * vocab_size

    return min(range(16, 4096), key=lambda size: abs(count(size) - parameters))


def over_seeds(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of the figures, and where there are several runs their standard deviations as `NAME_sd`."""
    numbers = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    figures = {name: statistics.fmean(run[name] for run in runs) for name in numbers}
    if len(runs) > 1:
        figures |= {f"{name}_sd": statistics.stdev(run[name] for run in runs) for name in numbers}
    return figures


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line a row, one column a figure."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    width = max(map(len, rows)) + 2
    print(" " * width + "  ".join(f"{name:>{max(len(name), 10)}}" for name in names))
    for label, row in rows.items():
        cells = (_cell(row.get(name)).rjust(max(len(name), 10)) for name in names)
        print(f"{label:{width}}" + "  ".join(cells), flush=True)


def print_json(figures: dict[str, Any], **facts: Any) -> None:
    """The last line of a benchmark: its figures, what it was asked, and the machine."""
    machine = {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    print(json.dumps({**figures, **facts, **machine}, ensure_ascii=False))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
