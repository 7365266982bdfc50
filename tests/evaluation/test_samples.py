import json
import random

import pytest
import torch

from boustro import BoustroTokenizer
from boustro.evaluation.samples import cut_like, draw_samples, sample_figures
from tests.conftest import small_model

TEXT = "the quick brown fox jumps over the lazy dog. 你好，世界。\n" * 4


@pytest.fixture(scope="module")
def tokenizer():
    return BoustroTokenizer.train_from_iterator([TEXT])


@pytest.fixture
def model(tokenizer):
    return small_model(vocab_size=len(tokenizer))


def test_samples_depend_on_the_seed_alone(model, tokenizer):
    torch.manual_seed(1)
    first = draw_samples(model, tokenizer, 5, 20, seed=7, batch_size=2)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert draw_samples(model, tokenizer, 5, 20, seed=7, batch_size=2) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(first)) == 5
    assert draw_samples(model, tokenizer, 5, 20, seed=8, batch_size=2) != first


def test_samples_hold_no_special_token_and_are_at_most_so_long(model, tokenizer):
    drawn = tokenizer.convert_tokens_to_ids(["e", tokenizer.pad_token, tokenizer.eos_token])
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
        model.get_output_embeddings().bias.fill_(-100.0)
        model.get_output_embeddings().bias[drawn] = torch.tensor([2.0, 0.0, 0.0])
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    samples = draw_samples(model, tokenizer, 40, 12, seed=0)
    assert {text.replace("e", "") for text in samples} == {""}
    assert len(set(map(len, samples))) > 3 and max(map(len, samples)) <= 12


def test_every_character_can_be_drawn(model, tokenizer):
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
        model.get_output_embeddings().bias.copy_(torch.linspace(0, 0.1, len(tokenizer)))
    model.generation_config.top_k, model.generation_config.top_p = 2, 0.1
    drawn = set("".join(draw_samples(model, tokenizer, 40, 60, seed=0)))
    assert set(TEXT) <= drawn


def test_every_row_has_latents_of_its_own(model, tokenizer, monkeypatch):
    noises = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **kwargs: noises.append(kwargs["latent_noise"]) or forward(*args, **kwargs)
    )
    draw_samples(model, tokenizer, 3, 11, seed=0)
    assert noises[0].shape[0] == 3 and noises[0].std() > 0.5
    assert not torch.equal(noises[0][0], noises[0][1])


def test_a_low_temperature_sharpens(model, tokenizer):
    hot = draw_samples(model, tokenizer, 20, 20, seed=0, temperature=5.0)
    cold = draw_samples(model, tokenizer, 20, 20, seed=0, temperature=0.05)
    assert len(set("".join(cold))) < len(set("".join(hot)))


def test_pieces_have_the_lengths_of_the_samples_and_do_not_overlap():
    real = ["".join(map(chr, range(0x4E00, 0x4E00 + 60))), "".join(map(chr, range(0x5E00, 0x5E00 + 8)))]
    samples = ["x" * length for length in (3, 10, 0, 8, 10)]
    kept, pieces = cut_like(samples, real, seed=0)
    assert kept == samples
    assert list(map(len, pieces)) == [3, 10, 0, 8, 10]
    assert all(any(piece in text for text in real) for piece in pieces)
    assert len(set("".join(pieces))) == 31
    assert cut_like(samples, real, seed=0)[1] == pieces != cut_like(samples, real, seed=1)[1]


def test_where_real_text_is_short_samples_are_cut_and_left_out():
    samples, pieces = cut_like(["a" * 9, "b" * 10, "c" * 10, "d" * 2], ["y" * 28], seed=0)
    assert samples == ["a" * 8, "b" * 10, "c" * 10] and pieces == ["y" * 8, "y" * 10, "y" * 10]
    assert cut_like(["a" * 50], ["y" * 8, "y" * 9], seed=0) == (["a" * 9], ["y" * 9])


def test_figures_stand_beside_those_of_real_text():
    rng = random.Random(0)
    training = ["".join(rng.choices("abcdefgh你好", k=500)) for _ in range(4)]
    real = ["".join(rng.choices("abcdefgh你好", k=500)) for _ in range(4)]
    samples = [training[0][:100], "ab" * 50, training[1][:100]]
    figures = sample_figures(samples, real, training, seed=0)
    assert json.loads(json.dumps(figures)) == figures
    assert set(figures) == {"samples", "real"} and set(figures["samples"]) == set(figures["real"])
    assert figures["samples"]["counted_characters"] == figures["real"]["counted_characters"] == 300
    assert figures["samples"]["share_with_50_copied"] == pytest.approx(2 / 3)
    assert figures["samples"]["looping_share"] == pytest.approx(1 / 3)
    assert 0 < figures["real"]["max_copied_characters"] < 20
    assert figures["real"]["looping_share"] == 0
    assert figures["real"]["distinct_4"] > figures["samples"]["distinct_4"]


@pytest.mark.parametrize("samples", [[], ["", ""]])
def test_no_samples_are_an_error(samples):
    with pytest.raises(ValueError, match="without a character"):
        sample_figures(samples, [TEXT], [TEXT], seed=0)
