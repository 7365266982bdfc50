"""Shared pieces of the tests: small models with random weights, so that state and padding show."""

import pytest
import torch

from boustro import BoustroConfig, BoustroForCausalLM

SMALL = {
    "vocab_size": 40,
    "embedding_size": 8,
    "hidden_size": 12,
    "latent_size": 4,
    "prior_components": 5,
    "segment_length": 5,
    "encoder_hidden_size": 10,
    "backward_hidden_size": 6,
}


def small_model(seed: int = 0, **changes) -> BoustroForCausalLM:
    """A model in evaluation mode whose weights, biases included, are all random."""
    torch.manual_seed(seed)
    model = BoustroForCausalLM(BoustroConfig(**{**SMALL, **changes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.generation_config.eos_token_id = None
    return model.eval()


def random_ids(rows: int, times: int, seed: int = 0, vocab_size: int = SMALL["vocab_size"]) -> torch.Tensor:
    """(rows, times) ids, special ones excepted."""
    return torch.randint(3, vocab_size, (rows, times), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tests run in several processes, whose threads would wait for each other; and sums are equal only for as
    many threads."""
    torch.set_num_threads(1)


@pytest.fixture
def model() -> BoustroForCausalLM:
    return small_model()
