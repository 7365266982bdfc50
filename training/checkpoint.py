"""Checkpoints that survive a kill at any moment: written beside their place, flushed, then renamed into it.

output_dir/
  arguments.json          every option of the run
  best/, last/            complete model folders: weights, config, code, tokenizer, generation config
  last/trainer_state/     what an exact resume needs besides: optimiser, counters, random numbers, recurrent state
"""

import io
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from boustro.cache_boustro import BoustroCache
from boustro.training.errors import resuming_from
from boustro.training.schedules import FIRST_PRESSURE

STATE_FOLDER = "trainer_state"
TO_PUBLISH = "to_publish"  # filled and emptied again, see `publish`


@dataclass
class RunState:
    """The counters of a run.

    Attributes:
        step: optimiser steps done.
        seconds: time spent in training, evaluation included, over all parts of a resumed run.
        best: lowest validation bound so far, nats per character.
        history: one entry an evaluation, see `TrainingLoop`.
        sums: totals since the last evaluation.
        data, validation: fingerprints of the training and the validation text.
        scaler: state of the fp16 gradient scaler.
        pressure: weight of the KL that holds it at its floor, see `schedules.next_pressure`.
        warmed_up: whether the latent's warm-up is over; a run made longer does not enter it again.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    data: str = ""
    validation: str = ""
    scaler: dict[str, Any] = field(default_factory=dict)
    pressure: float = FIRST_PRESSURE
    warmed_up: bool = False


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old text or the new one, never a part."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    _flush(beside)
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    """As `write_text`, for a JSON value."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def begin_folder(path: Path) -> Path:
    """An empty folder beside `path`, to be filled and then put in its place by `commit_folder`."""
    recover_folder(path)
    beside = folder_under_way(path)
    beside.mkdir(parents=True)
    return beside


def folder_under_way(path: Path) -> Path:
    """Where `path` is being filled, between `begin_folder` and `commit_folder`."""
    return path.with_name(f".{path.name}.new")


def _folder_before(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def commit_folder(path: Path) -> None:
    """Puts the filled folder in the place of `path`. Between the two renames only `recover_folder` finds it."""
    beside, old = folder_under_way(path), _folder_before(path)
    for file in [*beside.rglob("*"), beside]:
        _flush(file)
    if path.exists():
        path.rename(old)
    beside.rename(path)
    _flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Ends what a killed `commit_folder` began, and removes what a killed save left half-written."""
    beside, old = folder_under_way(path), _folder_before(path)
    if not path.exists() and old.exists():
        # the old folder only moves away once the new one is complete
        (beside if beside.exists() else old).rename(path)
    for leftover in (beside, old):
        if leftover.exists():
            shutil.rmtree(leftover)


def publish(model: torch.nn.Module, tokenizer: Any, output_dir: Path) -> None:
    """Writes the files of a model, as `save_model` does, into `output_dir`, each of them in one move."""
    folder = begin_folder(output_dir / TO_PUBLISH)
    save_model(folder, model, tokenizer)
    for file in folder.iterdir():
        _flush(file)
        os.replace(file, output_dir / file.name)
    folder.rmdir()


def save_model(folder: Path, model: torch.nn.Module, tokenizer: Any) -> None:
    """Weights, config, code, generation config and tokenizer: all that `from_pretrained` needs."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_run_state(folder: Path, state: RunState, optimizer: torch.optim.Optimizer) -> None:
    """What is the same in every process: counters and optimiser."""
    state_folder = folder / STATE_FOLDER
    state_folder.mkdir(exist_ok=True)
    # torch itself says a full disk by a RuntimeError about its own file format
    serialised = io.BytesIO()
    torch.save(optimizer.state_dict(), serialised)
    (state_folder / "optimizer.pt").write_bytes(serialised.getbuffer())
    write_json(state_folder / "state.json", asdict(state))


def load_run_state(folder: Path) -> RunState:
    """The counters of the checkpoint in `folder`."""
    path = folder / STATE_FOLDER / "state.json"
    with resuming_from(path, folder.parent):
        state = RunState(**json.loads(path.read_text(encoding="utf-8")))
    if state.sums:  # older runs counted target ids alone
        state.sums.setdefault("characters", state.sums["targets"])
    return state


def name_last(output_dir: Path) -> str:
    """Where a run that failed can go on from, as the end of a sentence."""
    last = output_dir / "last"
    return f"the last good checkpoint is {last}" if last.is_dir() else "no checkpoint had been written yet"


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Gives `optimizer` the state of the checkpoint in `folder`."""
    path = folder / STATE_FOLDER / "optimizer.pt"
    with resuming_from(path, folder.parent):
        optimizer.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def save_process_state(folder: Path, rank: int, caches: list[BoustroCache | None], device: torch.device) -> None:
    """What each process has of its own: random number generators and the recurrent states of its rows."""
    tensors = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    for i, cache in enumerate(caches):
        if cache is not None:
            tensors |= {f"cache.{i}.{name}": tensor for name, tensor in _cache_tensors(cache).items()}
    state_folder = folder / STATE_FOLDER
    state_folder.mkdir(exist_ok=True)
    # views that share memory and strided tensors cannot be saved
    packed = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    save_file(packed, _rank_file(state_folder, rank))


def load_process_state(folder: Path, rank: int, parts: int, device: torch.device) -> list[BoustroCache | None]:
    """Sets the random number generators and returns the recurrent states of the `parts` accumulation pieces."""
    path = _rank_file(folder / STATE_FOLDER, rank)
    with resuming_from(path, folder.parent):
        tensors = load_file(path)
        torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
    return [_cache_from(tensors, f"cache.{i}.", device) for i in range(parts)]


def has_process_state(folder: Path, rank: int) -> bool:
    """Whether the checkpoint was written by a run that had a process of this rank."""
    return _rank_file(folder / STATE_FOLDER, rank).is_file()


def _cache_tensors(cache: BoustroCache) -> dict[str, torch.Tensor]:
    (context_h, context_c), (generator_h, generator_c) = cache.context_state, cache.generator_state
    tensors = {
        "context_h": context_h,
        "context_c": context_c,
        "generator_h": generator_h,
        "generator_c": generator_c,
        "seen_tokens": torch.tensor(cache.seen_tokens),
    }
    if cache.plan is not None:
        tensors |= {"plan": cache.plan, "position": cache.position, "segment": cache.segment}
    return tensors


def _cache_from(tensors: dict[str, torch.Tensor], prefix: str, device: torch.device) -> BoustroCache | None:
    mine = {name.removeprefix(prefix): t.to(device) for name, t in tensors.items() if name.startswith(prefix)}
    if not mine:
        return None
    cache = BoustroCache()
    cache.context_state = mine["context_h"], mine["context_c"]
    cache.generator_state = mine["generator_h"], mine["generator_c"]
    cache.plan, cache.position, cache.segment = mine.get("plan"), mine.get("position"), mine.get("segment")
    cache.seen_tokens = int(mine["seen_tokens"])
    return cache


def _rank_file(state_folder: Path, rank: int) -> Path:
    return state_folder / f"process-{rank}.safetensors"


def _flush(path: Path) -> None:
    """Asks the system to put a file or folder on the disk; systems that cannot open folders skip those."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
