"""The training objective in parts, as pure functions. All values are in nats."""

import torch
from torch.nn import functional as F

from .distributions_boustro import GaussianMixture, log_normal


def kl_to_prior(
    mean: torch.Tensor, log_variance: torch.Tensor, latents: torch.Tensor, prior: GaussianMixture
) -> torch.Tensor:
    r"""
    KL(q ‖ p) of q = N(mean, exp(log_variance)), diagonal: (…, Z) → (…), summed over the Z dimensions.

    In closed form where the prior is one Gaussian; else the unbiased estimate log q(z) − log p(z) at `latents`
    (…, Z), which must be draws of q.
    """
    if prior.log_weights.shape[-1] == 1:
        return unit_kl(mean, log_variance, latents, prior).sum(-1)
    return log_normal(latents, mean, log_variance).sum(-1) - prior.log_prob(latents)


def unit_kl(
    mean: torch.Tensor, log_variance: torch.Tensor, latents: torch.Tensor, prior: GaussianMixture
) -> torch.Tensor:
    """The same of each dimension by itself, (…, Z); under a mixture, whose dimensions hang together, they do not add
    up to the whole."""
    if prior.log_weights.shape[-1] > 1:
        return log_normal(latents, mean, log_variance) - prior.unit_log_prob(latents)
    prior_mean, prior_log_variance = prior.means[0], prior.log_variances[0]
    squared = (mean - prior_mean).square() * torch.exp(-prior_log_variance)
    ratio = torch.exp(log_variance - prior_log_variance)
    return 0.5 * (prior_log_variance - log_variance + ratio + squared - 1)


def sample_gaussian(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """mean + σ · noise, the reparametrised sample (Kingma & Welling 2014, section 2.4)."""
    return mean + torch.exp(0.5 * log_variance) * noise


def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log softmax(logits)[target], (…, V) and (…) → (…), zero where the target is −100. Computed in float32."""
    flat = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=-100, reduction="none")
    return flat.view(targets.shape)


def floored_kl(kl: torch.Tensor, target_counts: torch.Tensor, floor: float, segment_length: int) -> torch.Tensor:
    r"""
    max(KL, floor) for each segment, so that the first `floor` nats are free (Kingma et al. 2016, section 2.4).

    Args:
        kl: (B, K), nats.
        target_counts: (B, K), characters of each segment. A short segment gets its share of the floor.
    """
    return torch.maximum(kl, floor * target_counts.to(kl.dtype) / segment_length)


def discounted(nll: torch.Tensor, horizon: float) -> torch.Tensor:
    """Σ exp(−place / horizon) · nll over the places of each segment, (…, S) → (…); a horizon of 0 is the plain sum."""
    if horizon <= 0:
        return nll.sum(-1)
    places = torch.arange(nll.shape[-1], device=nll.device, dtype=nll.dtype)
    return nll @ torch.exp(-places / horizon)


def negative_elbo(
    reconstruction: torch.Tensor, kl: torch.Tensor, target_count: torch.Tensor | int, kl_weight: float = 1.0
) -> torch.Tensor:
    """(Σ reconstruction + kl_weight · Σ kl) / targets: nats per character, a bound on −log p(x) at `kl_weight=1`."""
    return (reconstruction.sum() + kl_weight * kl.sum()) / target_count
