import copy

import pytest
import torch

from boustro.cache_boustro import BoustroCache
from tests.conftest import random_ids, small_model


def filled(model, rows=3):
    return model(random_ids(rows, 7)).past_key_values


def test_counts_and_resets(model):
    cache = filled(model)
    assert cache.get_seq_length() == 7
    assert cache.position.tolist() == [2, 2, 2] and cache.segment.tolist() == [2, 2, 2]
    cache.reset()
    assert cache.get_seq_length() == 0 and vars(cache) == vars(BoustroCache())


def test_reordered_rows_go_on_as_the_rows_they_came_from(model):
    ids = random_ids(3, 7)
    follow = random_ids(1, 6, seed=5).expand(3, 6)
    straight = model(follow, past_key_values=model(ids).past_key_values).logits
    cache = model(ids).past_key_values
    cache.reorder_cache(torch.tensor([2, 0, 0]))
    assert torch.allclose(model(follow, past_key_values=cache).logits, straight[[2, 0, 0]], atol=1e-6)


def test_selecting_and_repeating_rows(model):
    cache = filled(model)
    kept = cache.plan[1:2].clone()
    cache.batch_select_indices(torch.tensor([1]))
    cache.batch_repeat_interleave(2)
    assert torch.equal(cache.plan, kept.repeat(2, 1, 1))
    assert all(s.shape[0] == 2 for s in (*cache.context_state, *cache.generator_state, cache.position, cache.segment))


@pytest.mark.parametrize("latent_size", [4, 0])
def test_rows_that_forget_go_on_as_if_they_had_read_nothing(latent_size):
    model = small_model(latent_size=latent_size)
    ids, noise = random_ids(3, 11), torch.zeros(3, 0, max(latent_size, 1)) if latent_size else None

    def follow(cache):
        options = {"target_ids": ids[:, 6:], "past_key_values": cache, "latent_noise": noise}
        return model(ids[:, 5:10], **options).logits

    cache = model(ids[:, :5], target_ids=ids[:, 1:6], use_cache=True, latent_noise=noise).past_key_values.detach()
    straight = follow(copy.deepcopy(cache))
    found = follow(cache.forget(torch.tensor([False, True, False])))
    assert torch.equal(found[[0, 2]], straight[[0, 2]])
    assert torch.equal(found[1], follow(None)[1]) and not torch.allclose(found[1], straight[1], atol=1e-3)


def test_detach_cuts_the_gradient(model):
    ids = random_ids(2, 6)
    cache = model(ids[:, :5], target_ids=ids[:, 1:], use_cache=True).past_key_values
    assert cache.generator_state[0].requires_grad
    assert not cache.detach().generator_state[0].requires_grad


def test_what_a_recurrent_state_cannot_do_is_refused_with_a_sentence(model):
    with pytest.raises(NotImplementedError, match="cannot be cropped"):
        filled(model).crop(3)
    with pytest.raises(NotImplementedError, match="assisted decoding"):
        filled(model).activate_past_recording()
