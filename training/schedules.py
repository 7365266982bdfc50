"""Schedules as pure functions of progress, which runs from 0 (start) to 1 (end of training)."""

import math

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


def kl_weight(progress: float, warmup_fraction: float) -> float:
    """Weight of the KL in the objective: linear from 0 to 1 (Bowman et al. 2016, section 3.1), then 1."""
    return min(progress / warmup_fraction, 1.0) if warmup_fraction > 0 else 1.0
