import math

import pytest
import torch

from boustro.distributions_boustro import GaussianMixture, tempered


def mixture(weights, means, deviation=0.1) -> GaussianMixture:
    means = torch.tensor(means)
    return GaussianMixture(torch.log(torch.tensor(weights)), means, torch.full_like(means, 2 * math.log(deviation)))


def test_density_agrees_with_torch_distributions():
    torch.manual_seed(0)
    prior = GaussianMixture(torch.randn(3, 2, 5).log_softmax(-1), torch.randn(5, 4), torch.randn(5, 4))
    z = torch.randn(3, 2, 4)
    normal = torch.distributions.Normal(prior.means, (0.5 * prior.log_variances).exp())
    component = normal.log_prob(z[..., None, :])  # (3, 2, 5, 4)
    assert torch.allclose(prior.log_prob(z), torch.logsumexp(prior.log_weights + component.sum(-1), -1), atol=1e-5)
    for unit in range(4):
        expected = torch.logsumexp(prior.log_weights + component[..., unit], -1)
        assert torch.allclose(prior.unit_log_prob(z)[..., unit], expected, atol=1e-5)


@pytest.mark.parametrize("weights", [[0.2, 0.5, 0.3], [0.5, 0.5], [0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01]])
def test_draws_follow_the_mixture(weights):
    means = [[10.0 * c, -10.0 * c] for c in range(len(weights))]
    noise = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0))
    z = mixture([weights] * len(noise), means).sample(noise)
    component = (z[:, 0] / 10).round().long()
    shares = torch.bincount(component, minlength=len(weights)) / len(z)
    assert shares.tolist() == pytest.approx(weights, abs=0.01)
    around = (z - torch.tensor(means)[component]) / 0.1
    for c, weight in enumerate(weights):
        if weight > 0.05:
            own = around[component == c]
            assert own.mean(0).tolist() == pytest.approx([0, 0], abs=0.05)
            assert own.std(0).tolist() == pytest.approx([1, 1], abs=0.05)
            assert torch.corrcoef(own.T)[0, 1].item() == pytest.approx(0, abs=0.06)


def test_without_noise_the_draw_is_the_mean_of_the_likeliest_component():
    prior = mixture([[0.2, 0.5, 0.3], [0.4, 0.35, 0.25]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert torch.allclose(prior.sample(torch.zeros(2, 2)), torch.tensor([[3.0, 4.0], [1.0, 2.0]]), atol=1e-4)


def test_a_low_temperature_keeps_to_likely_components():
    noise = torch.randn(10_000, 1, generator=torch.Generator().manual_seed(0))
    prior = mixture([[0.5, 0.3, 0.2]] * len(noise), [[0.0], [10.0], [20.0]])
    likeliest = [
        (prior.sample(noise * temperature)[:, 0] < 5).float().mean().item() for temperature in (1.0, 0.5, 0.1)
    ]
    assert likeliest[0] == pytest.approx(0.5, abs=0.02)
    assert likeliest[0] < likeliest[1] < likeliest[2] == 1


def test_extreme_noise_and_vanishing_weights_stay_finite():
    log_weights = torch.tensor([0.0, -200.0, -200.0]).expand(3, 3)
    noise = torch.tensor([[-40.0, 0.0], [40.0, 0.0], [0.0, 0.0]])
    assert GaussianMixture(log_weights, torch.zeros(3, 2), torch.zeros(3, 2)).sample(noise).isfinite().all()


def test_a_high_temperature_spreads_and_draws_components_as_before():
    weights = [0.5, 0.3, 0.15, 0.05]
    prior = mixture(weights, [[0.0, 0.0], [100.0, 100.0], [200.0, 200.0], [300.0, 300.0]], deviation=1.0)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    prior.log_weights = prior.log_weights.expand(len(noise), -1)
    draws = prior.sample(tempered(noise, 3.0, mixture=True))
    component = (draws[:, 0] / 100).round()
    shares = torch.bincount(component.long(), minlength=4) / len(draws)
    torch.testing.assert_close(shares, torch.tensor(weights), atol=0.02, rtol=0)
    assert (draws[:, 1] - 100 * component).std().item() == pytest.approx(3, abs=0.1)
    assert torch.equal(tempered(noise, 0.5, mixture=True), 0.5 * noise)
    assert torch.equal(tempered(noise, 3.0, mixture=False), 3 * noise)
