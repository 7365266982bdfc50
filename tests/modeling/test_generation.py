import pytest
import torch

from tests.conftest import random_ids, small_model

PROMPT_LENGTHS = (11, 6, 1)


MODELS = {
    "conditional": {},
    "no plan skip": {"plan_skip": False},
    "standard": {"latent_prior": "standard"},
    "plain": {"latent_size": 0},
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def any_model(request):
    return small_model(**request.param)


def uneven_prompts():
    rows = [random_ids(1, n, seed=n)[0] for n in PROMPT_LENGTHS]
    longest = max(PROMPT_LENGTHS)
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0)) for row in rows])
    mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in rows])
    return rows, ids, mask


def generate(model, ids, mask=None, **options):
    mask = torch.ones_like(ids) if mask is None else mask
    options = {"max_new_tokens": 13, "do_sample": False, "pad_token_id": 0, **options}
    return model.generate(ids, attention_mask=mask, **options)[:, ids.shape[1] :]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_cached_equals_uncached(any_model, num_beams):
    _, ids, mask = uneven_prompts()
    cached = generate(any_model, ids, mask, num_beams=num_beams)
    assert torch.equal(cached, generate(any_model, ids, mask, num_beams=num_beams, use_cache=False))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_left_padded_batch_equals_single_prompts(any_model, num_beams):
    rows, ids, mask = uneven_prompts()
    batch = generate(any_model, ids, mask, num_beams=num_beams)
    for row, text in zip(rows, batch, strict=True):
        assert torch.equal(generate(any_model, row[None], num_beams=num_beams)[0], text)


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 3}])
def test_right_padded_batch_equals_left_padded_batch(any_model, options):
    rows, ids, mask = uneven_prompts()
    longest = ids.shape[1]
    right = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row))) for row in rows])
    right_mask = mask.flip(1)
    wanted = generate(any_model, ids, mask, **options)
    assert torch.equal(generate(any_model, right, right_mask, **options), wanted)
    sequences = any_model.generate(right, max_new_tokens=13, do_sample=False, pad_token_id=0, **options)
    assert torch.equal(sequences[:, longest:], wanted)  # the mask told by the padding's id
    assert torch.equal(sequences[:, :longest], ids)


@pytest.mark.parametrize("chunk", [1, 4])
def test_prefill_in_chunks_changes_nothing(any_model, chunk):
    rows, ids, mask = uneven_prompts()
    assert torch.equal(generate(any_model, ids, mask, prefill_chunk_size=chunk), generate(any_model, ids, mask))
    alone = rows[0][None]  # without padding generate drops the mask
    assert torch.equal(generate(any_model, alone, prefill_chunk_size=chunk), generate(any_model, alone))


def test_sampling_plans_alike_with_and_without_cache(any_model):
    _, ids, mask = uneven_prompts()
    samples = []
    for use_cache in (True, False):
        torch.manual_seed(7)
        samples.append(generate(any_model, ids, mask, do_sample=True, num_return_sequences=2, use_cache=use_cache))
    assert torch.equal(*samples)
    assert not torch.equal(samples[0][0], samples[0][1])


def step_logits(model, ids, **options):
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    return torch.stack(out.logits, 1), out.sequences


def test_prompt_segments_come_from_the_posterior_and_new_ones_from_the_prior(model):
    ids = random_ids(2, 8)  # seven targets: segments of 5 and 2, then new segments at places 7 and 12
    logits, sequences = step_logits(model, ids)
    targets = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
    posterior = model.model(ids, target_ids=targets, latent_noise=torch.zeros(2, 2, 4)).posterior_mean
    starts = torch.zeros(2, 15, dtype=torch.bool)
    starts[:, [0, 5, 7, 12]] = True
    by_hand = model(sequences[:, :15], segment_starts=starts, latents=posterior[:, :2]).logits[:, 7:]
    assert torch.allclose(logits, by_hand, atol=1e-5)
    without = model(sequences[:, :15], segment_starts=starts).logits[:, 7:]
    assert not torch.allclose(logits, without, atol=1e-3)


def test_given_latents_replace_the_first_planned_segments(model):
    ids, latents = random_ids(2, 8), torch.randn(2, 1, 4)
    logits, sequences = step_logits(model, ids, latents=latents)
    targets = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
    posterior = model.model(ids, target_ids=targets, latent_noise=torch.zeros(2, 2, 4)).posterior_mean
    starts = torch.zeros(2, 15, dtype=torch.bool)
    starts[:, [0, 5, 7, 12]] = True
    by_hand = model(sequences[:, :15], segment_starts=starts, latents=torch.cat([posterior[:, :2], latents], 1))
    assert torch.allclose(logits, by_hand.logits[:, 7:], atol=1e-5)
    assert not torch.allclose(logits[:, 0], step_logits(model, ids)[0][:, 0])


def test_latents_for_uneven_prompts_follow_each_rows_own_prompt(model):
    rows, ids, mask = uneven_prompts()
    latents = torch.randn(3, 2, 4)
    batch = generate(model, ids, mask, latents=latents)
    for i, row in enumerate(rows):
        assert torch.equal(generate(model, row[None], latents=latents[i : i + 1])[0], batch[i])


@pytest.mark.parametrize("fast", [True, False])
def test_latents_after_a_returned_cache_are_those_of_its_next_segments(model, monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(type(model), "_decodes_fast", lambda *arguments: False)
    options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True}
    first = model.generate(random_ids(2, 8), max_new_tokens=12, **options)
    z, plans = torch.randn(2, 2, 4), []
    decode = model.model.planner.backward_decoder.forward
    monkeypatch.setattr(
        model.model.planner.backward_decoder,
        "forward",
        lambda z, *length: plans.append(z[:, -1]) or decode(z, *length),
    )
    model.generate(first.sequences, past_key_values=first.past_key_values, latents=z, max_new_tokens=15, **options)
    assert len(plans) == 3
    assert torch.equal(plans[0], z[:, 0]) and torch.equal(plans[1], z[:, 1])
    assert not torch.allclose(plans[2], z[:, 1])


def test_generation_without_input_and_from_embeddings(model):
    assert model.generate(max_new_tokens=4, do_sample=False, pad_token_id=0).shape == (1, 5)
    embeds = model.get_input_embeddings()(random_ids(2, 6))
    out = model.generate(inputs_embeds=embeds, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert out.shape == (2, 4)


def test_wrong_latents_are_refused_before_anything_is_generated(model):
    with pytest.raises(ValueError, match=r"latents has the shape \(2, 4\)"):
        generate(model, random_ids(2, 6), latents=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="latent_size=0"):
        generate(small_model(latent_size=0), random_ids(1, 6), latents=torch.zeros(1, 1, 4))
