import math

import pytest
import torch

from boustro.objective_boustro import discounted, floored_kl, gaussian_kl, negative_elbo, sample_gaussian, token_nll


def test_gaussian_kl_against_the_closed_form_by_hand():
    # N(1, 4) from N(0, 1): (4 + 1 - 1 - ln 4) / 2;  N(0, 1) from N(2, 2): (1/2 + 4/2 - 1 + ln 2) / 2
    mean, log_variance = torch.tensor([1.0, 0.0]), torch.tensor([math.log(4), 0.0])
    prior_mean, prior_log_variance = torch.tensor([0.0, 2.0]), torch.tensor([0.0, math.log(2)])
    expected = (4 - math.log(4)) / 2 + (1.5 + math.log(2)) / 2
    assert gaussian_kl(mean, log_variance, prior_mean, prior_log_variance).item() == pytest.approx(expected)


def test_gaussian_kl_agrees_with_torch_distributions():
    torch.manual_seed(0)
    mean, log_variance, prior_mean, prior_log_variance = torch.randn(4, 3, 5)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    p = torch.distributions.Normal(prior_mean, (0.5 * prior_log_variance).exp())
    expected = torch.distributions.kl_divergence(q, p).sum(-1)
    assert torch.allclose(gaussian_kl(mean, log_variance, prior_mean, prior_log_variance), expected, atol=1e-5)


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
