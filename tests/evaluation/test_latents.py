import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from boustro.data_scripts.batches import Batch
from boustro.distributions_boustro import log_normal
from boustro.evaluation.latents import (
    Posteriors,
    active_units,
    examine,
    importance_weighted,
    importance_weighted_bound,
    log_importance_weights,
    longest_alignment,
    mutual_information,
    sum_by_place,
)
from boustro.evaluation.reading import single_rows
from tests.conftest import random_ids, small_model


def documents(lengths=(12, 7, 3)) -> Batch:
    """A batch of documents of random ids, padded on the right."""
    ids = random_ids(len(lengths), max(lengths)).numpy()
    targets = np.where(np.arange(max(lengths)) < np.array(lengths)[:, None], ids, -100)
    inputs = np.concatenate([np.ones((len(lengths), 1), np.int64), np.maximum(targets[:, :-1], 0)], axis=1)
    return Batch(inputs, targets, np.zeros_like(ids), None, -(-max(lengths) // 5), sum(lengths))


def without_plan(model):
    """The model with its generator cut from the latent: the plan is always zero."""
    with torch.no_grad():
        for parameter in model.model.planner.backward_decoder.parameters():
            parameter.zero_()
    return model


def posteriors(means, log_variance=0.0) -> Posteriors:
    mean = torch.tensor(means, dtype=torch.float64)
    spread, counts = torch.full_like(mean, log_variance), torch.ones(len(mean), dtype=torch.int64)
    kl = 0.5 * (mean.square() + spread.exp() - spread - 1)  # from N(0, 1)
    return Posteriors(mean, spread, kl, counts, counts)


def test_bound_by_hand():
    assert float(importance_weighted_bound(torch.log(torch.tensor([1.0, 3.0])), 0)) == pytest.approx(math.log(2))
    assert importance_weighted_bound(torch.full((2, 4), -900.0), 1).tolist() == pytest.approx([-900, -900])


def test_bound_of_a_linear_gaussian_model_comes_near_the_likelihood():
    # z ~ N(0, 1), x | z ~ N(z, 1), so x ~ N(0, 2); proposal N(0, 1)
    rng, x = np.random.default_rng(0), torch.tensor(1.5, dtype=torch.float64)
    zero, exact = (
        torch.zeros((), dtype=torch.float64),
        log_normal(x=torch.tensor(1.5), mean=0, log_variance=math.log(2) * torch.ones(())),
    )
    z = torch.from_numpy(rng.standard_normal((2000, 64)))
    log_weights = log_normal(x, z, zero)
    few, some, many = (float(importance_weighted_bound(log_weights[:, :n], 1).mean()) for n in (1, 4, 64))
    assert few < some < many < float(exact) + 0.01
    assert many == pytest.approx(float(exact), abs=0.02)


def test_one_sample_is_the_sampled_elbo():
    model = small_model()
    document = next(single_rows(iter([documents((12,))])))
    weight = log_importance_weights(model, document, 1, None, np.random.default_rng(3))
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal((1, 3, 4), dtype=np.float32))
    inputs = document.tensors(slice(None), torch.device("cpu"))
    with torch.no_grad():
        output = model(**inputs, latent_noise=noise)
        parts = model.model(**inputs, latent_noise=noise)
        log_q = log_normal(output.latents, parts.posterior_mean, parts.posterior_log_variance).sum()
        log_p = parts.prior.log_prob(output.latents).sum()
    assert float(weight) == pytest.approx(float(-output.reconstruction + log_p - log_q), rel=1e-5)


def test_more_samples_tighten_the_bound_and_their_mean_is_the_elbo():
    model = small_model(latent_prior="standard")
    batch = documents()
    results = [importance_weighted(model, iter([batch]), samples=n) for n in (1, 20, 300)]
    assert results[0]["importance_nats"] == pytest.approx(3 * results[0]["importance_elbo_per_document"])
    for result in results[1:]:
        assert result["importance_nats_per_document"] < result["importance_elbo_per_document"]
    assert results[2]["importance_nats"] < results[1]["importance_nats"] < results[0]["importance_nats"]
    with torch.no_grad():
        outputs = [model(**batch.tensors(slice(None), model.device)) for _ in range(100)]
    elbo = np.mean([float(output.reconstruction.sum() + output.kl.sum()) for output in outputs])
    assert results[2]["importance_elbo_per_document"] * 3 == pytest.approx(elbo, rel=0.03)


def test_neither_chunks_nor_batches_change_the_bound():
    model, batch = small_model(), documents()
    whole = importance_weighted(model, iter([batch]), samples=30)
    assert importance_weighted(model, iter([batch]), samples=30, chunk=7) == pytest.approx(whole, rel=1e-5)
    alone = single_rows(iter([batch]))
    assert importance_weighted(model, alone, samples=30) == pytest.approx(whole, rel=1e-5)
    assert whole["importance_documents"] == 3
    assert whole["importance_nats_per_character"] * 22 == pytest.approx(whole["importance_nats"])


def test_an_ignored_latent_with_the_prior_as_posterior_makes_the_bound_exact():
    model, batch = without_plan(small_model(latent_prior="standard")), documents()
    with torch.no_grad():
        for parameter in model.model.planner.encoder.output.parameters():
            parameter.zero_()
        exact = float(model(**batch.tensors(slice(None), model.device)).reconstruction.sum())
    assert importance_weighted(model, iter([batch]), samples=3)["importance_nats"] == pytest.approx(exact, rel=1e-5)


def test_mutual_information_by_hand():
    assert mutual_information(posteriors([[-50.0, 0.0], [50.0, 0.0]])) == pytest.approx(math.log(2))
    assert mutual_information(posteriors([[3.0, 1.0]] * 5)) == pytest.approx(0, abs=1e-9)


def test_mutual_information_does_not_depend_on_the_chunks(monkeypatch):
    many = posteriors(np.random.default_rng(7).standard_normal((40, 3)).tolist(), log_variance=-1.0)
    whole = mutual_information(many)
    monkeypatch.setattr("boustro.evaluation.latents.PAIRS", 70)
    assert mutual_information(many) == pytest.approx(whole)
    assert 0 < whole < float(many.unit_kl.mean(0).sum())


def test_activity_of_units_by_hand():
    assert active_units(posteriors([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]]).mean) == 1


@pytest.mark.parametrize("carries_state", [False, True])
def test_a_prior_draw_costs_what_the_generator_hears(carries_state):
    batch = documents((10, 10, 10))
    examined = [
        examine(model, iter([batch, batch]), carries_state, 100, 0)
        for model in (small_model(latent_prior="standard"), without_plan(small_model(latent_prior="standard")))
    ]
    (heard, found), (unheard, _) = examined
    assert unheard["prior_loss_per_segment"] == pytest.approx(0, abs=1e-5)
    assert abs(heard["prior_loss_per_segment"]) > 0.01
    assert heard["examined_segments"] == len(found) == 12
    # places 0, 1, 2–3 and 4 of segments of 5
    assert len(heard["prior_loss_by_place"]) == 4 and all(heard["prior_loss_by_place"])
    assert sum(heard["prior_loss_by_place"]) == pytest.approx(heard["prior_loss_per_segment"])
    assert found.characters.tolist() == [5] * 12
    assert heard["aggregate_kl"] == pytest.approx(sum(heard["unit_kl"]) - heard["mutual_information"])
    assert heard == examine(small_model(latent_prior="standard"), iter([batch, batch]), carries_state, 100, 0)[0]


def test_places_are_counted_from_the_start_of_their_segment():
    batch = documents((7, 7))
    values = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 0, 10, 0]]).double()
    assert sum_by_place(values, batch, 5).tolist() == [1 + 6 + 10, 2 + 7, 3 + 4, 5]
    starts = np.zeros((2, 7), bool)
    starts[:, 0] = starts[0, 2] = True
    assert sum_by_place(values, replace(batch, segment_starts=starts), 7).tolist() == [1 + 3, 2 + 4, 5 + 6, 7 + 10]


def test_the_backward_decoder_is_scored_by_character():
    model, batch = without_plan(small_model()), documents()
    # a decoder without weights predicts every one of the 40 ids alike
    assert examine(model, iter([batch]), False, 100, 0)[0]["backward_nats"] == pytest.approx(math.log(40), rel=1e-5)


@pytest.mark.parametrize("changes, lengths", [({"latent_size": 0}, (12, 7)), ({}, (4,))])
def test_nothing_to_examine_without_latents_or_with_one_segment(changes, lengths):
    figures, found = examine(small_model(**changes), iter([documents(lengths)]), False, 100, 0)
    assert found is None and set(figures.values()) == {None}
    weighted = importance_weighted(small_model(**changes), iter([documents(lengths)]), samples=2)
    assert (weighted["importance_nats"] is None) == ("latent_size" in changes)


def test_the_alignment_shown_is_that_of_the_longest_segment():
    batch = documents((4, 9))
    weights, targets = longest_alignment(small_model(), batch)
    assert weights.shape == (5, 5) and targets.tolist() == batch.target_ids[1, :5].tolist()
    assert weights.sum(1).tolist() == pytest.approx([1] * 5, abs=1e-5)
