"""What the backbone and the causal language model return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from .cache_boustro import BoustroCache
from .distributions_boustro import GaussianMixture


@dataclass
class BoustroModelOutput(ModelOutput):
    r"""
    Output of [`BoustroModel`]. B rows, T characters, K segments of S characters, Z latent and Hb plan dimensions.

    Attributes:
        last_hidden_state: (B, T, H), states of the generator LSTM plus those of the context LSTM, and with
            `plan_skip` plus the projected plan.
        past_key_values: the [`BoustroCache`], if asked for.
        latents: (B, K, Z), the z that were used. After a call that went on within a segment, latents[:, 0] stands
            for that one and is NaN: its z was used up in the plan. None after a cached call of one character.
        posterior_mean, posterior_log_variance: (B, K, Z), where targets were given.
        prior: p(z) of each segment, a [`GaussianMixture`] with log weights (B, K, C).
        backward_states: (B, K, S, Hb), the plan of each segment in text order.
        segment_targets: (B, K, S), the target ids of each segment, −100 where there is none.
        alignments: (B, K, P, S), weights of each place of a segment over its plan, if asked for, P being the places of
            the longest segment; (B, 1, 1, S) after a cached call of one character.
    """

    last_hidden_state: torch.FloatTensor | None = None
    past_key_values: BoustroCache | None = None
    latents: torch.FloatTensor | None = None
    posterior_mean: torch.FloatTensor | None = None
    posterior_log_variance: torch.FloatTensor | None = None
    prior: GaussianMixture | None = None
    backward_states: torch.FloatTensor | None = None
    segment_targets: torch.LongTensor | None = None
    alignments: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class BoustroCausalLMOutput(ModelOutput):
    r"""
    Output of [`BoustroForCausalLM`]. Loss parts are in nats and unreduced, so that any average can be taken.

    Attributes:
        loss: scalar, nats per target character. In evaluation mode the negative ELBO, a bound on −log p(x) per
            character; in training mode the objective with its floor, annealing and auxiliary terms. With `latents`
            given, −log p(x | z) alone, which is no bound.
        logits: (B, T, V).
        reconstruction: (B,), −log p(x | z) summed over a row's targets.
        kl: (B, K), KL(q ‖ p) of each segment, with a conditional prior estimated from `latents`, which must be
            draws of the posterior (a single value may be negative); 0 where a row has fewer segments.
        backward_nll: (B,), −log likelihood of the row's targets under the backward decoder; in training mode with a
            `backward_horizon`, of the first six horizons of each segment alone.
        target_count: (B,), target characters of each row.  segment_count: (B,), segments with a target.
        latents: (B, K, Z), the z that were used.  posterior_mean: (B, K, Z), where labels were given.
        alignments: (B, K, P, S), if asked for.  past_key_values: the cache, if asked for.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    kl: torch.FloatTensor | None = None
    backward_nll: torch.FloatTensor | None = None
    target_count: torch.LongTensor | None = None
    segment_count: torch.LongTensor | None = None
    latents: torch.FloatTensor | None = None
    posterior_mean: torch.FloatTensor | None = None
    alignments: torch.FloatTensor | None = None
    past_key_values: BoustroCache | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
