import math

import pytest
import torch

from boustro.distributions_boustro import GaussianMixture
from boustro.objective_boustro import (
    discounted,
    floored_kl,
    kl_to_prior,
    negative_elbo,
    sample_gaussian,
    token_nll,
    unit_kl,
)


def gaussian(mean, log_variance) -> GaussianMixture:
    return GaussianMixture(torch.zeros(1), torch.tensor([mean]), torch.tensor([log_variance]))


def test_kl_to_a_gaussian_by_hand():
    # N(1, 4) from N(0, 1): (4 + 1 - 1 - ln 4) / 2;  N(0, 1) from N(2, 2): (1/2 + 4/2 - 1 + ln 2) / 2
    mean, log_variance = torch.tensor([1.0, 0.0]), torch.tensor([math.log(4), 0.0])
    prior = gaussian([0.0, 2.0], [0.0, math.log(2)])
    expected = [(4 - math.log(4)) / 2, (1.5 + math.log(2)) / 2]
    anywhere = torch.full((2,), 7.0)  # the closed form needs no draw
    assert unit_kl(mean, log_variance, anywhere, prior).tolist() == pytest.approx(expected)
    assert kl_to_prior(mean, log_variance, anywhere, prior).item() == pytest.approx(sum(expected))


def test_kl_to_a_mixture_is_estimated_without_bias():
    # components so far from each other that q lies in the first alone: KL(q ‖ component) − ln weight
    generator = torch.Generator().manual_seed(0)
    prior = GaussianMixture(
        torch.log(torch.tensor([0.25, 0.75])), torch.tensor([[0.0, 0.0], [60.0, 60.0]]), torch.zeros(2, 2)
    )
    mean, log_variance = torch.tensor([1.0, 0.5]), torch.tensor([-1.0, 0.0])
    latents = sample_gaussian(mean, log_variance, torch.randn(20_000, 2, generator=generator))
    single = [gaussian([m], [0.0]) for m in (0.0, 0.0)]
    parts = [kl_to_prior(mean[i : i + 1], log_variance[i : i + 1], mean[:1], single[i]).item() for i in range(2)]
    estimate = kl_to_prior(mean, log_variance, latents, prior).mean().item()
    assert estimate == pytest.approx(sum(parts) + math.log(4), abs=0.02)
    units = unit_kl(mean, log_variance, latents, prior).mean(0).tolist()
    assert units == pytest.approx([part + math.log(4) for part in parts], abs=0.02)


def test_sample_is_mean_plus_sigma_times_noise():
    value = sample_gaussian(torch.tensor(3.0), torch.tensor(math.log(4.0)), torch.tensor(0.5))
    assert value.item() == pytest.approx(4.0)


def test_token_nll_by_hand_and_ignored():
    logits = torch.log(torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]))
    nll = token_nll(logits, torch.tensor([[0, -100]]))
    assert nll.tolist() == [[pytest.approx(math.log(4)), 0.0]]


def test_floor_is_shared_by_length():
    kl = torch.tensor([[1.0, 5.0, 1.0]])
    assert floored_kl(kl, torch.tensor([[10, 10, 2]]), floor=4, segment_length=10).tolist() == [[4.0, 5.0, 1.0]]


def test_negative_elbo_by_hand():
    value = negative_elbo(torch.tensor([10.0, 20.0]), torch.tensor([[1.0, 2.0], [3.0, 0.0]]), 12, kl_weight=0.5)
    assert value.item() == pytest.approx((30 + 0.5 * 6) / 12)


def test_discount_by_hand():
    nll = torch.tensor([[1.0, 2.0, 4.0]])
    assert discounted(nll, 2).item() == pytest.approx(1 + 2 * math.exp(-0.5) + 4 * math.exp(-1))
    assert discounted(nll, 0).item() == pytest.approx(7.0)
