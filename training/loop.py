"""The training loop: Accelerate for devices, precision and processes; everything else in plain sight.

The loop is a function of its state: batches, noise and schedules are computed from the step, and what cannot be
computed (weights, optimiser, recurrent states, random numbers of dropout) is in every checkpoint.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from boustro.data_scripts.batches import Batch, DocumentBatches, StreamBatches, latent_noise
from boustro.evaluation.reading import count_characters
from boustro.evaluation.scoring import collapse_warning
from boustro.training import checkpoint
from boustro.training.arguments import TrainArguments
from boustro.training.checkpoint import RunState
from boustro.training.errors import TrainingError
from boustro.training.interrupt import StopRequest
from boustro.training.optimizer import build_optimizer
from boustro.training.schedules import (
    LatentSettings,
    kl_weight,
    latent_warmup,
    learning_rate_factor,
    next_pressure,
    progress,
    reviving_weight,
)

LOG_EVERY = 10  # steps between two entries of the trackers
WARN_FROM = 0.5  # progress before which an unused latent is no news
SUMS = ("loss", "reconstruction", "kl", "segments", "targets", "characters")  # nats and counts


class TrainingLoop:
    """Trains a model and keeps `last/` and `best/` in the output folder.

    Args:
        model: a `BoustroForCausalLM`.
        tokenizer: saved beside the model.
        batches: the training data.
        evaluate: scores the model on validation data; its dict needs `nats_per_character`.
        args: the options of the run.
        accelerator: device, precision, processes, trackers.
        state: counters to go on from; with `resume_from`, the checkpoint folder that holds the rest.
        on_best: called in the main process with the folder, the step and the bound of each new best model.

    `state.history` gets an entry at every evaluation: `step`, `epoch`, `progress`, `seconds`, `learning_rate`,
    `kl_weight`, `train` (`loss`: the objective per target id; `nats_per_character`: the bound with its training noise,
    a character spelt in bytes counted once; `kl_per_segment`) and `validation` (what `evaluate` returned).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        batches: StreamBatches | DocumentBatches,
        evaluate: Callable[[torch.nn.Module], dict[str, Any]],
        args: TrainArguments,
        accelerator: Accelerator,
        state: RunState,
        resume_from: Path | None = None,
        on_best: Callable[[Path, int, float], None] | None = None,
    ):
        self.tokenizer, self.batches, self.evaluate = tokenizer, batches, evaluate
        self.args, self.accelerator, self.state, self.on_best = args, accelerator, state, on_best
        self.output_dir = Path(args.output_dir)
        self.raw_model = model
        self.parts = args.gradient_accumulation
        self._check_rows()
        model.to(accelerator.device)
        optimizer = build_optimizer(
            model,
            args.optimizer,
            args.learning_rate,
            args.muon_learning_rate,
            args.weight_decay,
            (args.adam_beta1, args.adam_beta2),
        )
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        if resume_from is not None:
            checkpoint.load_optimizer(resume_from, optimizer)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.caches = [None] * self.parts
        if resume_from is not None:
            self._load_process_state(resume_from)
        self.total_steps = total_steps(args, batches.steps)
        self.learning_rate, self.kl_weight, self.backward_weight = 0.0, 0.0, 0.0
        config = model.config
        final = LatentSettings(config.segment_length, config.kl_floor, config.backward_weight)
        first = (args.warmup_segment_length, args.warmup_kl_floor, args.warmup_backward_weight)
        self._latent_settings, self.latent = (LatentSettings(*first), final), final
        self._started_at, self.session_characters = time.monotonic() - state.seconds, 0.0

    @property
    def progress(self) -> float:
        """How much of the training is done, in [0, 1]."""
        return self._progress_after(self.state.step)

    def train(self) -> bool:
        """Runs to the end; returns False if a signal asked to stop before, with everything saved.

        Raises `TrainingError` when the loss is no finite number; the last checkpoint stays as it was.
        """
        self.model.train()
        self._started_at = time.monotonic() - self.state.seconds
        with StopRequest() as stop, self._progress_bar() as bar:
            finished = self.progress >= 1 or self._out_of_patience()
            while not finished:
                stopped = self.step(stop)
                self._show(bar)
                finished = self.progress >= 1
                if finished or self.state.step % self.args.eval_every == 0:
                    self._evaluate()
                    finished = finished or self._out_of_patience()
                if finished or stopped or self.state.step % (self.args.save_every or self.args.eval_every) == 0:
                    self.save("last")
                if stopped and not finished:
                    return False
        return True

    def step(self, stop: StopRequest | None = None) -> bool:
        """One optimiser step and nothing else; returns whether any process was asked to stop."""
        epoch, index = divmod(self.state.step, self.batches.steps)
        if index == 0:
            self.caches = [None] * self.parts
        self._set_schedules()
        batch = self.batches.batch(epoch, index, self.latent.segment_length)
        noise = latent_noise(self.args.seed, self.state.step, batch, self.raw_model.config.latent_size)
        totals = torch.zeros(len(SUMS), device=self.accelerator.device)
        for part in range(self.parts):
            last = part == self.parts - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                totals += self._part(part, batch, noise)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.clip_norm)
        values = self._reduce(totals, norm, stop is not None and stop.made)
        self._check_finite(values)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._count(values)
        return values["stop"] > 0

    def _part(self, part: int, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """Forward and backward for one piece of the batch; returns its totals in the order of `SUMS`."""
        world, device = self.accelerator.num_processes, self.accelerator.device
        rows = batch.part(self.accelerator.process_index * self.parts + part, world * self.parts)
        cache = self.caches[part]
        if cache is not None and batch.cold is not None:
            cache.forget(torch.from_numpy(batch.cold[rows]).to(device))
        output = self.model(
            **batch.tensors(rows, device),
            past_key_values=cache,
            use_cache=self.batches.carries_state,
            latent_noise=noise[rows].to(device),
            segment_length=self.latent.segment_length,
            kl_weight=self.kl_weight,
            kl_floor=0.0,  # the weight alone holds the KL at its floor
            backward_weight=self.backward_weight,
            num_items_in_batch=batch.normaliser,
        )
        # processes average their gradients: the factor makes that a sum
        self.accelerator.backward(output.loss * world)
        if self.batches.carries_state:
            self.caches[part] = output.past_key_values.detach()
        zero = output.loss.new_zeros(())
        kl = zero if output.kl is None else output.kl.sum()
        segments = zero if output.kl is None else output.segment_count.sum()
        characters = zero + count_characters(batch.target_ids[rows])
        nats = (output.loss * batch.normaliser, output.reconstruction.sum(), kl)
        parts = (*nats, segments, output.target_count.sum(), characters)
        return torch.stack([value.detach().float() for value in parts])

    def _reduce(self, totals: torch.Tensor, norm: torch.Tensor, stop: bool) -> dict[str, float]:
        """Sums over processes. The main process has the clock, so that all of them end at the same step."""
        seconds = time.monotonic() - self._started_at if self.accelerator.is_main_process else 0.0
        own = torch.tensor([float(stop), seconds], device=totals.device)
        values = self.accelerator.reduce(torch.cat([totals, own]), "sum").tolist()
        return dict(zip((*SUMS, "stop", "seconds"), values, strict=True)) | {"norm": float(norm)}

    def _check_finite(self, values: dict[str, float]) -> None:
        # an fp16 scaler skips steps whose gradient overflows and lowers its scale: only the loss tells
        norm = values["norm"] if self.accelerator.scaler is None else 0.0
        if math.isfinite(values["loss"]) and math.isfinite(norm):
            return
        self._diverged("loss" if not math.isfinite(values["loss"]) else "gradient", self.state.step + 1)

    def _check_weights(self) -> None:
        """What is saved must be good to go on from."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.raw_model.parameters()):
            self._diverged("weights", self.state.step)

    def _diverged(self, what: str, step: int) -> None:
        kept = checkpoint.name_last(self.output_dir)
        half = " or --mixed-precision no (fp16 overflows easily)" if self.accelerator.mixed_precision == "fp16" else ""
        raise TrainingError(
            f"the {what} is not a finite number at step {step} (learning rate {self.learning_rate:.2g}); {kept}. "
            "Most often the learning rate is too high: go on with --resume and a smaller --learning-rate "
            f"and --muon-learning-rate, or a smaller --clip-norm{half}."
        )

    def _count(self, values: dict[str, float]) -> None:
        self.state.step += 1
        if values["segments"]:
            kl = values["kl"] / values["segments"]
            self.state.pressure = next_pressure(self.state.pressure, kl, self.latent.kl_floor)
        self.state.seconds = values["seconds"]
        self.session_characters += values["characters"]
        sums = self.state.sums
        for name in SUMS:
            sums[name] = sums.get(name, 0.0) + values[name]
        if self.state.step % LOG_EVERY == 0:
            figures = {
                "loss": values["loss"] / values["targets"],
                "gradient_norm": values["norm"],
                "learning_rate": self.learning_rate,
            }
            figures |= {"kl_per_segment": _ratio(values["kl"], values["segments"]), "kl_weight": self.kl_weight}
            self._log("train", figures)

    def _evaluate(self) -> None:
        validation = self.evaluate(self.raw_model)
        self.model.train()
        sums = self.state.sums
        entry = {
            "step": self.state.step,
            "epoch": self.state.step / self.batches.steps,
            "progress": self.progress,
            "seconds": self.state.seconds,
            "learning_rate": self.learning_rate,
            "kl_weight": self.kl_weight,
            "train": {
                "loss": sums["loss"] / sums["targets"],
                "nats_per_character": (sums["reconstruction"] + sums["kl"]) / sums["characters"],
                "kl_per_segment": _ratio(sums["kl"], sums["segments"]),
            },
            "validation": validation,
        }
        self.state.history.append(entry)
        self.state.sums = {}
        self._report(entry)
        value = validation["nats_per_character"]
        if not math.isfinite(value):
            self._diverged("validation bound", self.state.step)
        if self.state.best is None or value < self.state.best:
            self.state.best = value
            self.save("best")
            if self.on_best is not None and self.accelerator.is_main_process:
                self.on_best(self.output_dir / "best", self.state.step, value)

    def _out_of_patience(self) -> bool:
        """Whether the last `patience` evaluations found nothing better than before; the latent's warm-up is no time
        to judge."""
        fraction = self.args.latent_warmup_fraction
        judged = itertools.dropwhile(lambda entry: entry["progress"] < fraction, self.state.history)
        values = [entry["validation"]["nats_per_character"] for entry in judged]
        return (
            bool(self.args.patience and values) and len(values) - 1 - values.index(min(values)) >= self.args.patience
        )

    def save(self, name: str) -> None:
        """Writes the checkpoint `last` (with all that resuming needs) or `best` (the model alone), atomically."""
        self._check_weights()
        folder, main = self.output_dir / name, self.accelerator.is_main_process
        if main:
            checkpoint.begin_folder(folder)
        self.accelerator.wait_for_everyone()
        beside = checkpoint.folder_under_way(folder)
        if name == "last":
            rank = self.accelerator.process_index
            checkpoint.save_process_state(beside, rank, self.caches, self.accelerator.device)
        self.accelerator.wait_for_everyone()
        if main:
            checkpoint.save_model(beside, self.raw_model, self.tokenizer)
            if name == "last":
                scaler = self.accelerator.scaler
                self.state.scaler = {} if scaler is None else scaler.state_dict()
                checkpoint.save_run_state(beside, self.state, self.optimizer)
            checkpoint.commit_folder(folder)
        self.accelerator.wait_for_everyone()

    def _load_process_state(self, folder: Path) -> None:
        rank = self.accelerator.process_index
        if not checkpoint.has_process_state(folder, rank) or checkpoint.has_process_state(
            folder, self.accelerator.num_processes
        ):
            raise TrainingError(
                f"--resume: the run in {self.output_dir} was not trained with {self.accelerator.num_processes} "
                "processes; start as many as before."
            )
        self.caches = checkpoint.load_process_state(folder, rank, self.parts, self.accelerator.device)
        if self.accelerator.mixed_precision == "no":  # of a run that went on in bf16
            for cache in filter(None, self.caches):
                cache.apply(lambda x: x.to(self.raw_model.dtype) if x.is_floating_point() else x)
        if self.accelerator.scaler is not None and self.state.scaler:
            self.accelerator.scaler.load_state_dict(self.state.scaler)

    def _check_rows(self) -> None:
        pieces = self.accelerator.num_processes * self.parts
        if self.batches.rows < pieces:
            raise TrainingError(
                f"a step has {self.batches.rows} rows, fewer than the {pieces} pieces it is divided into (processes × "
                "--gradient-accumulation); set a larger --batch-size, or give more text."
            )

    def _set_schedules(self) -> None:
        """Learning rates and KL weight of the step under way, by the progress at its end: the first one learns."""
        after = self._progress_after(self.state.step + 1)
        factor = learning_rate_factor(after, self.args.warmup_fraction)
        self.learning_rate = self.args.learning_rate * factor
        self.kl_weight = kl_weight(after, self.args.kl_warmup_fraction) * self.state.pressure
        self.state.warmed_up = self.state.warmed_up or after >= self.args.latent_warmup_fraction
        fraction = 0.0 if self.state.warmed_up else self.args.latent_warmup_fraction
        self.latent = latent_warmup(after, fraction, *self._latent_settings)
        loud = self.args.warmup_backward_weight if self.latent.kl_floor > 0 else 0.0
        self.backward_weight = reviving_weight(self.state.pressure, self.latent.backward_weight, loud)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    def _progress_after(self, step: int) -> float:
        budget = self.args.max_minutes * 60 if self.args.max_minutes else None
        return progress(step, self.total_steps, self.state.seconds, budget)

    def _progress_bar(self) -> tqdm:
        layout = "{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}"
        disable = None if self.accelerator.is_main_process else True  # None: no bar in a log file
        return tqdm(total=1000, initial=int(1000 * self.progress), bar_format=layout, disable=disable, desc="training")

    def _show(self, bar: tqdm) -> None:
        sums = self.state.sums
        speed = self.session_characters / max(bar.format_dict["elapsed"], 1e-9)
        parts = [f"step {self.state.step}", f"loss {sums['loss'] / sums['targets']:.3f}", f"{speed:,.0f} chars/s"]
        if sums["segments"]:
            parts.insert(2, f"KL {sums['kl'] / sums['segments']:.2f}")
        bar.set_postfix_str(", ".join(parts), refresh=False)
        bar.update(int(1000 * self.progress) - bar.n)

    def _report(self, entry: dict[str, Any]) -> None:
        """Tells the screen and the trackers about an evaluation."""
        validation = entry["validation"]
        figures = {name: value for name, value in validation.items() if isinstance(value, float | int)}
        self._log("validation", figures)
        if not self.accelerator.is_main_process:
            return
        line = f"step {entry['step']}: train {entry['train']['nats_per_character']:.4f}, "
        line += f"validation {validation['nats_per_character']:.4f} nats per character"
        if validation["kl_per_segment"] is not None:
            line += f", KL {validation['kl_per_segment']:.2f} nats per segment"
        if validation["swap_loss_per_segment"] is not None:
            line += f" (swapping latents loses {validation['swap_loss_per_segment']:.2f})"
        tqdm.write(line)
        warning = collapse_warning(validation)
        if warning and entry["progress"] >= WARN_FROM:
            tqdm.write(f"warning: {warning}")

    def _log(self, kind: str, figures: dict[str, Any]) -> None:
        present = {f"{kind}/{name}": value for name, value in figures.items() if value is not None}
        self.accelerator.log(present, step=self.state.step)


def total_steps(args: TrainArguments, steps_per_epoch: int) -> int | None:
    """Steps until `epochs` or `max_steps` is reached, whichever comes first; None if neither is set."""
    by_epochs = None if args.epochs is None else max(round(args.epochs * steps_per_epoch), 1)
    limits = [limit for limit in (by_epochs, args.max_steps) if limit is not None]
    return min(limits, default=None)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
