import numpy as np
import pytest
import torch

from boustro.data_scripts.encoding import EncodedCorpus
from boustro.evaluation.particles import _resample, particle_bound
from boustro.evaluation.scoring import evaluate_split
from tests.conftest import random_ids, small_model


@pytest.fixture
def corpus():
    ids = random_ids(1, 143, vocab_size=40)[0].numpy() + 259
    return EncodedCorpus(ids.astype(np.uint16), np.zeros(len(ids), np.uint8), np.array([0, len(ids)]), len(ids), 1, 0)


def bound(model, corpus, **options):
    return particle_bound(model, corpus, **options)["particle_nats"]


def test_without_an_influence_of_z_every_particle_is_the_plain_likelihood(corpus):
    model = small_model(vocab_size=300)
    planner = model.model.planner
    with torch.no_grad():
        for parameter in planner.backward_decoder.parameters():
            parameter.zero_()  # the generator hears nothing
        for parameter in (*planner.encoder.output.parameters(), planner.prior.means, planner.prior.log_variances):
            parameter.zero_()  # posterior and prior are N(0, I)
    expected = evaluate_split(model, corpus, input_mode="stream", rows=2)["nats_per_character"]
    assert bound(model, corpus, particles=3, rows=2) == pytest.approx(expected, rel=1e-5)


def test_one_particle_samples_the_elbo_and_more_particles_tighten_the_bound(corpus):
    model = small_model(vocab_size=300)
    with torch.no_grad():
        for layer in (model.model.planner.encoder.output, model.model.planner.prior.output):
            layer.weight.mul_(0.2)
    scored = [evaluate_split(model, corpus, input_mode="stream", seed=seed) for seed in range(20)]
    elbo = np.mean([figures["nats_per_character"] for figures in scored])
    single = np.mean([bound(model, corpus, particles=1, seed=seed) for seed in range(20)])
    many = np.mean([bound(model, corpus, particles=64, seed=seed) for seed in range(3)])
    assert single == pytest.approx(elbo, rel=0.02)
    assert many < single - 0.02


def test_resampling_keeps_rows_apart_and_follows_the_weights():
    weights = torch.log(torch.tensor([[0.75, 0.25, 1e-9, 1e-9], [1e-9, 1e-9, 1e-9, 1.0]]))
    assert _resample(weights, np.random.default_rng(0)).tolist() == [0, 0, 0, 1, 7, 7, 7, 7]


def test_a_plain_model_has_no_particles(corpus):
    assert bound(small_model(vocab_size=300, latent_size=0), corpus) is None
