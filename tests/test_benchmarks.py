import pytest
import torch

from benchmarks.captions import without_alignment, without_backward
from benchmarks.time_to_loss import train_to_target
from tests.conftest import random_ids, small_model


@pytest.mark.parametrize("alter", [without_alignment, without_backward])
@pytest.mark.parametrize("length", [3, 5])
def test_the_parts_of_the_ablation_read_sentences_shorter_than_a_segment(alter, length):
    model = small_model(latent_prior="standard", segment_length=5)
    alter(model)
    ids = random_ids(2, length)
    model(ids, labels=ids).loss.backward()
    assert torch.isfinite(model.lm_head.weight.grad).all()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"stop": False}, {"steps": 4, "characters": 40, "nats": 1.5}),
        ({"stop": True}, {"steps": 4, "characters": 40, "nats": 1.7}),
        ({"stop": True, "minutes": 0.0}, {"steps": None, "characters": None, "nats": 2.5}),
    ],
)
def test_training_to_a_loss_ends_at_the_target_or_at_its_limit(limits, expected):
    losses = iter([9.0, 2.5, 1.7, 1.5])  # the first validation warms up
    found = train_to_target(lambda: 10, lambda: next(losses), steps=5, every=2, device="cpu", **limits)
    assert {name: found[name] for name in expected} == expected
