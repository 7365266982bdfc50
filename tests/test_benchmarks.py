import pytest
import torch

from benchmarks.captions import without_alignment, without_backward
from tests.conftest import random_ids, small_model


@pytest.mark.parametrize("alter", [without_alignment, without_backward])
@pytest.mark.parametrize("length", [3, 5])
def test_the_parts_of_the_ablation_read_sentences_shorter_than_a_segment(alter, length):
    model = small_model(latent_prior="standard", segment_length=5)
    alter(model)
    ids = random_ids(2, length)
    model(ids, labels=ids).loss.backward()
    assert torch.isfinite(model.lm_head.weight.grad).all()
