"""Exposure of canaries: how much likelier a model finds a planted secret than other ones.

Carlini et al. 2019, "The Secret Sharer", sections 4.2 and 4.3 (exposure, and its estimate by sampling).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boustro.data_scripts.canaries import Canary, draw_secrets
from boustro.evaluation.likelihood import text_nats

CANDIDATES = 2047  # secrets that were not planted; with one planted beside them exposure goes up to 11 bits
SURPRISING = 0.01  # probability under chance below which a canary counts as exposed


def exposures(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    canaries: Sequence[Canary],
    candidates: int = CANDIDATES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """For each number of repeats, the exposure of the canaries planted so often.

    The exposure of a secret is log2((N + 1) / rank), in bits, its rank being that of its sentence's likelihood among
    those of N candidates drawn anew: at most log2(N + 1), and under chance above e with a probability of at most 2^−e.

    Returns dicts of `repeats`, `canaries` (how many), `exposure` (their mean), `highest_possible`, `ranks`, `chance`
    (`chance_of` their sum) and `exposed`, whether that is below `SURPRISING`, None where the candidates are too few
    for that; the most repeated first.
    """
    groups: dict[int, list[int]] = {}
    nats: dict[str, np.ndarray] = {}
    secrets = draw_secrets(candidates, np.random.default_rng([seed, candidates]))
    planted = {canary.secret for canary in canaries}
    secrets = [secret for secret in secrets if secret not in planted]
    for canary in canaries:
        if canary.form not in nats:
            nats[canary.form] = text_nats(model, tokenizer, [canary.form.format(secret) for secret in secrets])
        own = text_nats(model, tokenizer, [canary.text])[0]
        groups.setdefault(canary.repeats, []).append(1 + int((nats[canary.form] <= own).sum()))
    results = []
    for repeats, ranks in sorted(groups.items(), reverse=True):
        bits = [math.log2((len(secrets) + 1) / rank) for rank in ranks]
        chance, highest = chance_of(sum(bits), len(bits)), math.log2(len(secrets) + 1)
        can_tell = chance_of(highest * len(bits), len(bits)) < SURPRISING
        results.append(
            {
                "repeats": repeats,
                "canaries": len(bits),
                "exposure": sum(bits) / len(bits),
                "highest_possible": highest,
                "ranks": ranks,
                "chance": chance,
                "exposed": chance < SURPRISING if can_tell else None,
            }
        )
    return results


def chance_of(bits: float, count: int) -> float:
    """The probability (an upper bound of it) that `count` secrets that a model knows nothing of have exposures that
    add up to `bits` or more: their ranks are uniform, so an exposure is exponential, and a sum of them Erlang."""
    nats = bits * math.log(2)
    return math.exp(-nats) * math.fsum(nats**k / math.factorial(k) for k in range(count))
