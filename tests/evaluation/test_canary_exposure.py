import math

import numpy as np
import pytest
import torch

from boustro import BoustroConfig, BoustroForCausalLM, BoustroTokenizer
from boustro.data_scripts.canaries import LATIN, Canary, draw_secrets
from boustro.evaluation.canaries import chance_of, exposures
from tests.conftest import small_model

TOKENIZER = BoustroTokenizer.train_from_iterator([LATIN.format("0123456789")])


def test_a_learnt_secret_is_exposed_and_unknown_ones_are_not():
    torch.manual_seed(0)
    learnt, *unknown = draw_secrets(9, np.random.default_rng(0))
    ids = TOKENIZER(LATIN.format(learnt), return_tensors="pt")["input_ids"]
    sizes = {"vocab_size": len(TOKENIZER), "embedding_size": 16, "hidden_size": 32, "dropout": 0.0}
    model = BoustroForCausalLM(BoustroConfig(**sizes, latent_size=0, num_generator_layers=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    canaries = [Canary(LATIN, learnt, 100), *(Canary(LATIN, secret, 1) for secret in unknown)]
    hundred, one = exposures(model, TOKENIZER, canaries, candidates=255)
    assert (hundred["repeats"], hundred["ranks"], hundred["exposure"]) == (100, [1], 8.0)
    assert hundred["exposed"] and hundred["chance"] == pytest.approx(2**-8)
    assert (one["repeats"], one["canaries"]) == (1, 8) and not one["exposed"]


def test_exposure_is_the_logarithm_of_the_rank():
    model, secrets = small_model(vocab_size=len(TOKENIZER)), draw_secrets(4, np.random.default_rng(1))
    canaries = [Canary(LATIN, secret, 1) for secret in secrets]
    (found,) = exposures(model, TOKENIZER, canaries, candidates=100)
    assert found["exposure"] == pytest.approx(sum(math.log2(101 / rank) for rank in found["ranks"]) / 4)
    assert exposures(model, TOKENIZER, canaries, candidates=100) == [found]


def test_few_candidates_tell_nothing():
    (found,) = exposures(small_model(vocab_size=len(TOKENIZER)), TOKENIZER, [Canary(LATIN, "1", 1)], candidates=50)
    assert found["exposed"] is None


def test_chance_is_that_of_uniform_ranks():
    assert chance_of(3.0, 1) == pytest.approx(1 / 8) and chance_of(0.0, 5) == 1
    sums = -np.log2(np.random.default_rng(0).random((20_000, 3))).sum(1)
    assert chance_of(7.0, 3) == pytest.approx((sums >= 7).mean(), abs=0.01)
