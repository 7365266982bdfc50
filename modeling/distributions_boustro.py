"""The family of the prior: mixtures of diagonal Gaussians, with draws that are a function of given noise."""

import math
from dataclasses import dataclass

import torch

LOG_TWO_PI = math.log(2 * math.pi)
MARGIN = 1e-6  # quantiles keep this distance from 0 and 1, whose normal quantiles are infinite


@dataclass
class GaussianMixture:
    r"""
    p(z) = Σ_c w_c N(z; m_c, diag σ_c²). All segments share the C components and differ in their weights.

    Attributes:
        log_weights: (…, C), normalised.
        means, log_variances: (C, Z).
    """

    log_weights: torch.FloatTensor
    means: torch.FloatTensor
    log_variances: torch.FloatTensor

    def double(self) -> "GaussianMixture":
        """The same in float64."""
        return GaussianMixture(self.log_weights.double(), self.means.double(), self.log_variances.double())

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """log p(z) in nats, (…, Z) → (…)."""
        density = log_normal(z[..., None, :], self.means, self.log_variances).sum(-1)  # (…, C)
        return torch.logsumexp(self.log_weights + density, -1)

    def unit_log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """log p(z_i) in nats of each dimension by itself, (…, Z) → (…, Z)."""
        density = log_normal(z[..., None, :], self.means, self.log_variances)  # (…, C, Z)
        return torch.logsumexp(self.log_weights[..., None] + density, -2)

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        r"""
        A draw of p for standard normal `noise`, (…, Z) → (…, Z); for zeros the mean of the likeliest component.

        The quantile of the noise's first coordinate chooses the component, and its place among that component's
        quantiles is in turn the component's own noise (inversion). The components lie side by side with the likeliest
        in the middle and the others around it by weight, so that noise times a temperature below 1 keeps to
        likely ones.
        """
        if self.log_weights.shape[-1] == 1:
            return self.means[0] + torch.exp(0.5 * self.log_variances[0]) * noise
        weights, order = self.log_weights.exp().sort(-1, descending=True)
        count = weights.shape[-1]
        around, middle = _around_the_middle(count, weights.device), count // 2
        weights, order = weights[..., around], order[..., around]
        ends = weights.cumsum(-1)
        centre = ends[..., middle] - 0.5 * weights[..., middle]
        # turned as on a circle, so that the median is the centre of the likeliest component
        quantile = (torch.special.ndtr(noise[..., 0]) - 0.5 + centre) % 1
        slot = (ends < quantile[..., None]).sum(-1, keepdim=True).clamp(max=count - 1)
        end, weight, component = (part.gather(-1, slot)[..., 0] for part in (ends, weights, order))
        within = (1 - (end - quantile) / weight.clamp(min=MARGIN**2)).clamp(MARGIN, 1 - MARGIN)
        own = torch.cat([torch.special.ndtri(within)[..., None], noise[..., 1:]], -1)
        return self.means[component] + torch.exp(0.5 * self.log_variances[component]) * own


def tempered(noise: torch.Tensor, temperature: float, mixture: bool) -> torch.Tensor:
    """Noise (…, Z) times a temperature, as `GaussianMixture.sample` takes it. Of a mixture the first coordinate, which
    chooses the component, is only scaled down: scaled up it would choose the unlikeliest ones alone."""
    scaled = noise * temperature
    if mixture and temperature > 1:
        scaled = torch.cat([noise[..., :1], scaled[..., 1:]], -1)
    return scaled


def log_normal(x: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """log N(x; mean, exp(log_variance)) in nats, for each element."""
    return -0.5 * ((x - mean).square() * torch.exp(-log_variance) + log_variance + LOG_TWO_PI)


def _around_the_middle(count, device):
    """Ranks …, 3, 1, 0, 2, 4, …: how components lie from left to right, rank 0 at place count // 2."""
    ranks = torch.arange(count, device=device)
    return torch.cat([ranks[1::2].flip(0), ranks[::2]])
