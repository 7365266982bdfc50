"""Latent operations against the same thing done by hand."""

import math

import pytest
import torch

from boustro import BoustroTokenizer
from boustro.latents_boustro import _arc, _cut
from tests.conftest import small_model

TEXTS = ["the cat", "a much longer text", "汉字"]


@pytest.fixture(scope="module")
def tokenizer():
    return BoustroTokenizer.train_from_iterator(["abcdefghijklmnopqrstuvwxyz 汉字"])


@pytest.fixture(params=["conditional", "standard"])
def any_model(request, tokenizer):
    return small_model(vocab_size=len(tokenizer), latent_prior=request.param)


def ids_of(model, tokenizer, text):
    ids = tokenizer(text).input_ids
    return torch.tensor([ids + [2] * (model.config.latent_prior == "standard")])


def test_encoding_a_batch_is_encoding_each_text(any_model, tokenizer):
    found = any_model.encode(TEXTS, tokenizer)
    for i, text in enumerate(TEXTS):
        ids = ids_of(any_model, tokenizer, text)
        output = any_model(ids, labels=ids, latent_noise=torch.zeros(1, 0, 4))
        count = -(-(ids.shape[1] - 1) // 5)
        assert found.segment_count[i] == count
        torch.testing.assert_close(found.mean[i, :count], output.posterior_mean[0, :count])
        assert not found.mean[i, count:].any()
    again = any_model.encode(ids_of(any_model, tokenizer, TEXTS[1]))
    torch.testing.assert_close(again.mean[0], found.mean[1])


def test_what_a_tokenizer_gives_is_read_without_its_padding(any_model, tokenizer):
    expected = any_model.encode(TEXTS, tokenizer)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    # what lies under the padding is no text, whatever its id
    batch["input_ids"] = batch.input_ids.masked_fill(batch.attention_mask == 0, 7)
    for given in (batch, dict(batch), tokenizer(TEXTS), {"input_ids": tokenizer(TEXTS, padding=True).input_ids}):
        found = any_model.encode(given)
        assert torch.equal(found.mean, expected.mean) and torch.equal(found.segment_count, expected.segment_count)
    assert torch.equal(any_model.encode(tokenizer(TEXTS[0])).mean, any_model.encode(TEXTS[0], tokenizer).mean)
    counts = any_model.score(batch).characters
    assert torch.equal(counts, any_model.score(TEXTS, tokenizer=tokenizer).characters)
    prompt = tokenizer("so", return_tensors="pt")
    like = [
        any_model.generate(**prompt, latents_from=given, tokenizer=tokenizer, do_sample=False, max_new_tokens=9)
        for given in (TEXTS[1], tokenizer(TEXTS[1]))
    ]
    assert torch.equal(*like)


def test_reconstructions_are_greedy_texts_from_the_posterior_mean(any_model, tokenizer):
    with torch.no_grad():
        any_model.lm_head.bias[3:259] = -1e9  # no bytes: where a text is cut would decide which of them may come
    written = any_model.reconstruct(TEXTS, tokenizer)
    for text, found in zip(TEXTS, written, strict=True):
        latents = any_model.encode(text, tokenizer).mean
        length = ids_of(any_model, tokenizer, text).shape[1] - 1
        options = {"max_new_tokens": length, "do_sample": False, "pad_token_id": 0}
        ids = any_model.generate(torch.tensor([[1]]), attention_mask=torch.ones(1, 1), latents=latents, **options)
        assert found == tokenizer.decode(ids[0, 1:], skip_special_tokens=True)


def test_a_text_is_not_cut_within_a_character():
    ids = [7, 3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 9]
    assert [len(_cut(ids, length)) for length in range(6)] == [0, 1, 1, 1, 4, 5]


def test_a_segment_without_a_latent_is_left_to_the_prior(any_model):
    start, free = torch.full((2, 1), 1), torch.full((2, 3, 4), float("nan"))
    latents = torch.randn(2, 3, 4)
    half = torch.stack([latents[0], torch.cat([latents[1, :1], free[1, 1:]])])
    options = {"attention_mask": torch.ones_like(start), "max_new_tokens": 15, "do_sample": False, "pad_token_id": 0}
    written = any_model.generate(start, latents=half, **options)
    assert torch.equal(any_model.generate(start, latents=free, **options), any_model.generate(start, **options))
    assert torch.equal(written[0], any_model.generate(start, latents=latents, **options)[0])
    assert torch.equal(written[1], any_model.generate(start, latents=latents[:, :1], **options)[1])


def test_operations_leave_the_mode_as_it_was_and_do_without_dropout(tokenizer):
    model = small_model(vocab_size=len(tokenizer), dropout=0.5)
    expected = model.reconstruct(TEXTS, tokenizer)
    assert model.train().reconstruct(TEXTS, tokenizer) == expected and model.training


def test_interpolation_goes_from_one_text_to_the_other(any_model, tokenizer):
    a, b = TEXTS[0], "the dog"
    ends = any_model.encode([a, b], tokenizer).mean
    length = ends.shape[1] * 5
    expected = any_model.decode_latents(ends, tokenizer, max_new_tokens=length)
    for spherical in (False, True):
        texts = any_model.interpolate(a, b, steps=5, spherical=spherical, tokenizer=tokenizer)
        assert len(texts) == 5 and [texts[0], texts[-1]] == expected
    middle = any_model.decode_latents(ends.mean(0, keepdim=True), tokenizer, max_new_tokens=length)
    assert any_model.interpolate(a, b, steps=3, tokenizer=tokenizer)[1] == middle[0]


def test_pairs_are_interpolated_together_as_each_alone(any_model, tokenizer):
    with torch.no_grad():
        any_model.lm_head.bias[3:259] = -1e9  # no bytes: where a text is cut would decide which of them may come
    a, b = ["the cat", "a much longer text", "汉字"], ["a much longer text", "some other text", "the dog"]
    for spherical in (False, True):
        options = {"steps": 3, "spherical": spherical, "tokenizer": tokenizer}
        assert any_model.interpolate(a, b, **options) == [
            any_model.interpolate(*pair, **options) for pair in zip(a, b, strict=True)
        ]
    assert any_model.interpolate(a[:1], b[:1], **options) == [any_model.interpolate(a[0], b[0], **options)]
    with pytest.raises(ValueError, match="a holds 1 and b 3 texts, expected as many"):
        any_model.interpolate(a[0], b, tokenizer=tokenizer)


def test_options_of_generate_are_handed_on_and_those_that_make_no_sense_refused(any_model, tokenizer):
    whole = any_model.reconstruct("the cat", tokenizer, max_new_tokens=30)[0]
    stop = whole[4]
    found = any_model.reconstruct("the cat", tokenizer, max_new_tokens=30, stop_strings=[stop])
    assert found == [whole[: whole.index(stop) + 1]]
    latents = torch.randn(2, 1, 4)
    for options, message in (
        ({"num_return_sequences": 2, "do_sample": True}, "num_return_sequences is 2, expected 1"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate is True, expected False"),
        ({"return_latents": True}, "return_latents is True, expected False"),
        ({"attention_mask": None}, "attention_mask was given"),
        ({"max_new_tokens": None}, "max_new_tokens is None, expected a whole number"),
    ):
        for operation in (
            lambda **options: any_model.reconstruct("the cat", tokenizer, **options),
            lambda **options: any_model.interpolate("a", "b", tokenizer=tokenizer, **options),
            lambda **options: any_model.sample_prior(2, tokenizer=tokenizer, **options),
            lambda **options: any_model.decode_latents(latents, tokenizer, **options),
        ):
            with pytest.raises(ValueError, match=message):
                operation(**options)


def test_numbers_that_cannot_be_are_refused_in_a_sentence(any_model, tokenizer):
    for steps in (1, None, 2.5, "3"):
        with pytest.raises(ValueError, match=rf"steps is {steps!r}, expected a whole number of at least 2"):
            any_model.interpolate("a", "b", steps=steps, tokenizer=tokenizer)
    for samples in (0, 1.5):
        with pytest.raises(ValueError, match=f"samples is {samples}, expected a whole number of at least 1, or None"):
            any_model.score("a", samples=samples, tokenizer=tokenizer)
    for count in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match=f"count is {count}, expected a whole number of at least 1"):
            any_model.sample_prior(count, tokenizer=tokenizer)
    for temperature in (-1, float("nan"), float("inf"), None):
        with pytest.raises(ValueError, match=f"temperature is {temperature}, expected 0 or a positive number"):
            any_model.sample_prior(1, temperature=temperature, tokenizer=tokenizer)


def test_spherical_interpolation_keeps_the_length(any_model):
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    way = _arc(a, b, torch.tensor([0.0, 1 / 3, 1.0])[:, None, None])
    assert torch.allclose(
        way[:, 0], torch.tensor([[3.0, 0.0], [3 * math.cos(math.pi / 6), 1.5], [0.0, 3.0]]), atol=1e-5
    )
    assert torch.equal(_arc(a, a, torch.tensor([0.5])[:, None, None])[0], a)


def test_samples_of_the_prior_are_texts_of_their_latents(any_model, tokenizer):
    torch.manual_seed(0)
    samples = any_model.sample_prior(3, tokenizer=tokenizer)
    assert samples.latents.shape == (3, 1, 4) and samples.texts == any_model.decode_latents(samples.latents, tokenizer)
    still = any_model.sample_prior(2, temperature=0.0, tokenizer=tokenizer).latents
    torch.testing.assert_close(still[0], still[1])


def test_backward_drafts_are_the_likeliest_characters(any_model, tokenizer):
    latents = torch.randn(2, 3, 4)
    drafts = any_model.backward(latents, tokenizer)
    decoder = any_model.model.planner.backward_decoder
    ids = decoder.logits(decoder(latents))[1, 2].argmax(-1).tolist()
    ids = ids[: ids.index(2)] if 2 in ids else ids
    assert len(drafts) == 2 and len(drafts[0]) == 3
    assert drafts[1][2] == tokenizer.decode(ids, skip_special_tokens=True)


def test_scores_are_the_bound_and_tighten_with_samples(any_model, tokenizer):
    torch.manual_seed(0)
    bound = torch.stack([any_model.score(TEXTS, tokenizer=tokenizer).nats for _ in range(200)])
    tight = any_model.score(TEXTS, samples=400, tokenizer=tokenizer)
    assert (tight.nats <= bound.mean(0) + 3 * bound.std(0) / 200**0.5).all()
    by_one = torch.stack([any_model.score(TEXTS, samples=1, tokenizer=tokenizer).nats for _ in range(400)])
    assert torch.allclose(by_one.mean(0), bound.mean(0), rtol=0.02)  # one sample is an estimate of the ELBO
    counts = [ids_of(any_model, tokenizer, text).shape[1] - 1 for text in TEXTS]
    assert tight.characters.tolist() == counts
    assert torch.allclose(tight.bits_per_character, tight.nats / torch.tensor(counts) / math.log(2))


def test_scores_of_a_plain_model_are_exact_and_do_not_depend_on_the_batch(tokenizer):
    model = small_model(vocab_size=len(tokenizer), latent_size=0)
    scores = model.score(TEXTS, tokenizer=tokenizer)
    ids = torch.tensor([tokenizer(TEXTS[2]).input_ids])
    expected = -model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
    assert scores.nats[2].item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ValueError, match="encode needs latents"):
        model.encode(TEXTS, tokenizer)


def test_generation_is_planned_like_a_text_and_its_latents_are_scaled(any_model, tokenizer):
    prompt = tokenizer("so", return_tensors="pt")
    options = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0, "tokenizer": tokenizer}
    like = any_model.generate(**prompt, latents_from=TEXTS[1], **options)
    latents = any_model.encode(TEXTS[1], tokenizer).mean
    assert torch.equal(like, any_model.generate(**prompt, latents=latents, **options))
    scored = {**options, "return_dict_in_generate": True, "output_logits": True, "max_new_tokens": 2}
    planned, free = (any_model.generate(**prompt, **given, **scored) for given in ({"latents": latents}, {}))
    assert not torch.allclose(planned.logits[-1], free.logits[-1])
    with pytest.raises(ValueError, match="expected one of them"):
        any_model.generate(**prompt, latents=latents, latents_from=TEXTS[1], **options)
    # from <bos> alone and with one candidate a step, all chance lies in the latents that are planned
    sampling = {**options, "do_sample": True, "top_k": 1, "bos_token_id": 1}
    texts = [any_model.generate(latent_temperature=temperature, **sampling) for temperature in (0.0, 0.0, 3.0)]
    assert torch.equal(texts[0], texts[1]) and not torch.equal(texts[0], texts[2])
    with pytest.raises(ValueError, match="latent_temperature is -1"):
        any_model.generate(**prompt, latent_temperature=-1, **sampling)
    with pytest.raises(ValueError, match="latent_temperature needs latents"):
        small_model(vocab_size=len(tokenizer), latent_size=0).generate(**prompt, latent_temperature=1.0, **options)


def test_what_is_no_text_is_refused_in_a_sentence(any_model, tokenizer):
    for texts, message in (
        ([], "texts holds nothing"),
        ([3], "texts holds int"),
        (3, "texts holds int"),
        ([""], "a text is empty"),
        ({"text": ["a"]}, "texts is a mapping of text, expected input_ids"),
        ({"input_ids": "abc"}, "input_ids is str, expected whole numbers"),
        ({"input_ids": [[1, 7, 8]], "attention_mask": [[1, 1]]}, "attention_mask has another shape than input_ids"),
        (torch.randn(2, 3), r"texts is a tensor \(2, 3\) of torch.float32, expected whole numbers"),
        (torch.tensor([1, 7]), r"texts is a tensor \(2,\) of torch.int64"),
    ):
        if texts == [""] and any_model.config.latent_prior == "standard":
            continue  # an empty document is its end mark
        with pytest.raises(ValueError, match=message):
            any_model.encode(texts, tokenizer)
    with pytest.raises(ValueError, match="no tokenizer was given"):
        any_model.encode("text")
    with pytest.raises(ValueError, match="latents has the shape"):
        any_model.backward(torch.zeros(2, 3), tokenizer)
