"""The fit of the prior at the end of a training."""

import math

import numpy as np
import pytest
import torch

from boustro.data_scripts.batches import StreamBatches, Streams
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.training import prior
from boustro.training.prior import SegmentStarts, fit_prior, kl_of, read_starts
from tests.conftest import SMALL, random_ids, small_model

BOS, EOS, LENGTH = 1, 2, SMALL["segment_length"]


def corpus(characters: int, seed: int = 0) -> EncodedCorpus:
    ids = random_ids(1, characters, seed)[0].numpy().astype(np.uint16)
    word_starts = np.random.default_rng(seed).integers(0, 3, characters).astype(np.uint8)
    return EncodedCorpus(ids, word_starts, np.array([0, characters]), characters, characters, 0)


def batches(characters: int = 600) -> StreamBatches:
    return StreamBatches(corpus(characters), 4, 2 * LENGTH, LENGTH, 0, BOS, EOS)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_only_the_prior_changes_and_held_out_segments_cost_less(model):
    before, random_state = weights(model), torch.get_rng_state()
    figures = fit_prior(model.train(), batches(), corpus(300, seed=1), 400, seed=0)
    after = weights(model)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {
        f"model.planner.prior.{name}"
        for name in ("means", "log_variances", "projection.weight", "projection.bias", "output.weight", "output.bias")
    }
    assert figures["kl_after"] < figures["kl_before"] and figures["segments"] == 400
    assert not model.training and torch.equal(random_state, torch.get_rng_state())


def test_the_fit_is_a_function_of_the_seed():
    def fitted(seed: int) -> torch.Tensor:
        model = small_model()
        fit_prior(model, batches(), corpus(300, seed=1), 400, seed)
        return model.model.planner.prior.means

    assert torch.equal(fitted(0), fitted(0)) and not torch.equal(fitted(0), fitted(1))


def test_a_prior_that_serves_held_out_text_worse_is_not_taken(model, monkeypatch):
    def spoil(prior, starts, generator):
        prior.means.data += 10

    monkeypatch.setattr(prior, "_descend", spoil)
    before = weights(model)
    figures = fit_prior(model, batches(), corpus(300, seed=1), 400, seed=0)
    assert figures["kl_after"] == figures["kl_before"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("validation", "segments"), [(LENGTH - 1, 400), (300, 0)])
def test_without_a_whole_segment_nothing_is_done(model, validation, segments):
    before = weights(model)
    assert fit_prior(model, batches(), corpus(validation, seed=1), segments, seed=0) is None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_starts_are_what_prior_and_posterior_see_in_a_forward_call(model, monkeypatch):
    monkeypatch.setattr(prior, "WINDOW_POSITIONS", 2 * 3 * LENGTH)  # three segments a window, state carried
    monkeypatch.setattr(prior, "SEGMENTS_OF_ROW", 7)
    text = corpus(2 * 7 * LENGTH)
    starts = read_starts(model, text.ids, text.word_starts, 100, seed=0, readings=1)
    assert len(starts) == 14
    offset = int(np.random.default_rng([0, prior.READING]).integers(len(text.ids)))
    streams = Streams(text.ids, text.word_starts, 2, BOS)
    ids, targets, word_starts = (torch.from_numpy(x) for x in streams.window(0, 7 * LENGTH, offset))
    seen = []
    model.model.planner.prior.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        whole = model.model(ids, target_ids=targets, word_starts=word_starts)
    order = [0, 1, 2, 7, 8, 9, 3, 4, 5, 10, 11, 12, 6, 13]  # window by window, in each row by row
    pairs = (
        (starts.context, seen[0]),
        (starts.mean, whole.posterior_mean),
        (starts.log_variance, whole.posterior_log_variance),
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected.flatten(0, 1)[order])


def test_a_short_text_is_read_several_times_from_other_places(model):
    text = corpus(8 * LENGTH)
    starts = read_starts(model, text.ids, text.word_starts, 20, seed=0)
    assert len(starts) == 20
    assert len({tuple(row.tolist()) for row in starts.mean}) > 8  # as many as one reading has


def test_few_held_out_segments_judge_by_many_draws(model, monkeypatch):
    shapes = []
    monkeypatch.setattr(prior, "kl_of", lambda _, starts, noise: shapes.append((len(starts), *noise.shape)) or 0.0)
    fit_prior(model, batches(), corpus(LENGTH, seed=1), 400, seed=0)
    assert shapes == [(1, prior.JUDGING_DRAWS, 1, 4)] * 2


def test_a_model_in_bfloat16_is_judged_by_the_weights_it_keeps():
    model = small_model().bfloat16()
    figures = fit_prior(model, batches(), corpus(300, seed=1), 400, seed=0)
    kept = model.model.planner.prior
    assert kept.means.dtype == torch.bfloat16 and figures["kl_after"] < figures["kl_before"]


def test_kl_is_that_of_the_definition():
    mixture = small_model(prior_components=2).model.planner.prior
    mixture.means.data[:], mixture.log_variances.data[:] = 1.0, math.log(4.0)  # twice the same Gaussian
    starts = SegmentStarts(torch.zeros(1, 12), torch.full((1, 4), 2.0), torch.zeros(1, 4))
    noise = torch.randn(100_000, 1, 4, generator=torch.Generator().manual_seed(0))
    # KL(N(2, 1) ‖ N(1, 4)) = log 2 + (1 + 1) / 8 − 1 / 2, in each of the four dimensions
    assert kl_of(mixture, starts, noise) == pytest.approx(4 * (math.log(2) - 1 / 4), rel=0.01)
