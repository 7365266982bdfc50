"""Schedules as pure functions of progress, which runs from 0 (start) to 1 (end of training)."""

import math
from dataclasses import dataclass

FIRST_PRESSURE, LEAST_PRESSURE, PRESSURE_RATE = 0.05, 1e-3, 0.1  # of the KL: see `next_pressure`
FINAL_LEARNING_RATE = 0.02  # share of the peak that is left at the end


def progress(step: int, total_steps: int | None, seconds: float, total_seconds: float | None) -> float:
    """How much of the training is done, in [0, 1], by whichever limit is nearest; `None` is no limit."""
    by_steps = step / total_steps if total_steps else 0.0
    by_clock = seconds / total_seconds if total_seconds else 0.0
    return min(max(by_steps, by_clock), 1.0)


def learning_rate_factor(progress: float, warmup_fraction: float) -> float:
    """Factor of the peak learning rate: linear warm-up, then a cosine down to `FINAL_LEARNING_RATE`
    (Loshchilov & Hutter 2017, without restarts)."""
    if progress < warmup_fraction:
        return progress / warmup_fraction
    if warmup_fraction >= 1:
        return 1.0
    along = (progress - warmup_fraction) / (1 - warmup_fraction)
    cosine = 0.5 * (1 + math.cos(math.pi * along))
    return FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine


@dataclass(frozen=True)
class LatentSettings:
    r"""
    How the latent is trained at some moment.

    Attributes:
        segment_length: S, characters that share one latent.
        kl_floor: nats per segment that the KL may cost for free.
        backward_weight: weight of the backward decoder's own likelihood.
    """

    segment_length: int
    kl_floor: float
    backward_weight: float


def latent_warmup(progress: float, fraction: float, first: LatentSettings, final: LatentSettings) -> LatentSettings:
    r"""
    From `first` to `final` in the first `fraction` of the training. The segment length stays at its first value for
    half of that time and doubles step by step in the other half; floor and weight move linearly.

    Short segments give many latents a step with little to say each, a high floor lets them say it without noise, and
    the backward decoder's likelihood asks for it directly; once the generator listens, long segments make the same
    latent cheap. Without a warm-up the generator of a stream never learns to listen (docs/decisions.md).
    """
    if progress >= fraction:
        return final
    along = progress / fraction
    lengths = [min(first.segment_length, final.segment_length)]
    while 2 * lengths[-1] < final.segment_length:
        lengths.append(2 * lengths[-1])
    stage = 0 if along < 0.5 else 1 + int((2 * along - 1) * (len(lengths) - 1))
    return LatentSettings(
        lengths[min(stage, len(lengths) - 1)],
        first.kl_floor + along * (final.kl_floor - first.kl_floor),
        first.backward_weight + along * (final.backward_weight - first.backward_weight),
    )


def next_pressure(pressure: float, kl: float, floor: float) -> float:
    """
    The weight of the KL for the next step, moved so that the KL (nats per segment, mean of a step) settles at `floor`.

    It rises by up to a tenth while the KL is above the floor and falls by up to a tenth below it: the rate is a
    constraint with a multiplier (Rezende & Viola 2018, "Taming VAEs", section 3; Shao et al. 2020, "ControlVAE"). It
    stays at 1, the weight of the bound, where even that leaves the KL above the floor.
    """
    error = 1.0 if floor <= 0 else min(max(kl / floor - 1, -1.0), 1.0)
    return min(max(pressure * math.exp(PRESSURE_RATE * error), LEAST_PRESSURE), 1.0)


def reviving_weight(pressure: float, weight: float, loud: float) -> float:
    """
    The backward decoder's weight while the KL is under `pressure`: `weight`, and towards `loud` as the pressure falls
    from a tenth of its first value to its least. So a latent that says too little although it may is asked for more.
    """
    low, high = math.log(LEAST_PRESSURE), math.log(FIRST_PRESSURE / 10)
    silent = min(max((high - math.log(pressure)) / (high - low), 0.0), 1.0)
    return weight + silent * max(loud - weight, 0.0)


def kl_weight(progress: float, warmup_fraction: float) -> float:
    """Weight of the KL in the objective: linear from 0 to 1 (Bowman et al. 2016, section 3.1), then 1."""
    return min(progress / warmup_fraction, 1.0) if warmup_fraction > 0 else 1.0
