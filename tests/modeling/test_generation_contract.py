"""What generate() promises beside its tokens: refusals with a reason, latents on request, load, chat."""

import gc
import logging

import pytest
import torch
from transformers import AutoTokenizer, TextStreamer

from boustro import BoustroTokenizer, generation_boustro
from tests.conftest import random_ids, small_model
from tests.modeling.test_generation import generate, uneven_prompts


def test_assisted_decoding_and_streamed_beams_are_refused_with_a_reason(model):
    ids = random_ids(1, 4)
    with pytest.raises(ValueError, match="the state of a recurrent model cannot be taken back"):
        generate(model, ids, assistant_model=small_model())
    with pytest.raises(ValueError, match="prompt_lookup_num_tokens was given"):
        generate(model, ids, prompt_lookup_num_tokens=3)
    tokenizer = BoustroTokenizer.train_from_iterator([])
    with pytest.raises(ValueError, match="beam search changes its mind"):
        generate(model, ids, num_beams=2, streamer=TextStreamer(tokenizer))


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(1, 1, 3), r"shape \(1, 1, 3\)"),
        (torch.zeros(2, 1, 4), r"shape \(2, 1, 4\)"),
        (torch.zeros(1, 1, 4, dtype=torch.long), "a tensor of torch.int64"),
        ([[0.0] * 4], "latents is list"),
    ],
)
def test_latents_that_do_not_fit_are_refused_in_a_sentence(model, latents, message):
    with pytest.raises(ValueError, match=message):
        generate(model, random_ids(1, 4), latents=latents)


def test_other_bad_input_is_refused_in_a_sentence(model):
    with pytest.raises(ValueError, match="holds the id 40, expected ids from 0 to 39"):
        generate(model, torch.tensor([[1, 40]]))
    with pytest.raises(ValueError, match="texts holds NoneType"):
        model.encode(None)
    with pytest.raises(ValueError, match="latents is None"):
        model.decode_latents(None)
    with pytest.raises(ValueError, match="no_such_argument"):
        generate(model, random_ids(1, 4), no_such_argument=1)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("text", "inputs is a str, expected a tensor of ids"),
        ([[1, 2]], "inputs is a list, expected a tensor of ids"),
        (torch.tensor([3, 4]), r"the shape \(2,\)"),
        (torch.zeros(1, 2), "tensor of torch.float32"),
        (torch.zeros(1, 0, dtype=torch.long), r"the shape \(1, 0\)"),
        (torch.zeros(0, 2, dtype=torch.long), r"the shape \(0, 2\)"),
    ],
)
def test_a_prompt_that_is_none_is_refused_in_a_sentence(model, ids, message):
    with pytest.raises(ValueError, match=message):
        model.generate(ids, max_new_tokens=2)


def test_more_latents_than_segments_are_warned_of(model, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    latents = torch.randn(1, 4, 4)
    few = generate(model, random_ids(1, 4), latents=latents, max_new_tokens=10)
    assert "latents holds 4 segments, but 10 new characters make at most 2 of 5" in caplog.text
    assert torch.equal(few, generate(model, random_ids(1, 4), latents=latents[:, :2], max_new_tokens=10))


@pytest.mark.parametrize("fast", [True, False])
def test_latents_are_returned_and_give_the_text_again(model, monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(generation_boustro.BoustroGenerationMixin, "_decodes_fast", lambda *args: False)
    _, ids, mask = uneven_prompts()  # of 3, 1 and 0 segments of at most 5
    torch.manual_seed(0)
    options = {"return_dict_in_generate": True, "do_sample": True, "max_new_tokens": 12, "pad_token_id": 0, "top_k": 1}
    out = model.generate(ids, attention_mask=mask, return_latents=True, **options)
    assert out.latents.shape == (3, 5, 4) and out.latents[:, :3].isfinite().all()
    alone = ids[2:, -1:]
    planned = {"latents": out.latents[2:, :3], "attention_mask": torch.ones_like(alone)}
    again = model.generate(alone, **planned, **options).sequences
    assert torch.equal(again[0, 1:], out.sequences[2, ids.shape[1] :])


def test_return_latents_is_refused_where_there_are_none(model):
    ids = random_ids(1, 4)
    with pytest.raises(ValueError, match="without return_dict_in_generate=True"):
        generate(model, ids, return_latents=True)
    with pytest.raises(ValueError, match="num_beams=2, expected 1"):
        generate(model, ids, return_latents=True, return_dict_in_generate=True, num_beams=2)
    with pytest.raises(ValueError, match="return_latents needs latents"):
        generate(small_model(latent_size=0), ids, return_latents=True)


def test_a_long_prompt_is_read_in_pieces_with_the_same_result(model, monkeypatch):
    _, ids, mask = uneven_prompts()
    whole = generate(model, ids, mask)
    monkeypatch.setattr(generation_boustro, "PREFILL", 4)
    assert torch.equal(generate(model, ids, mask), whole)
    assert torch.equal(generate(model, ids, mask, use_cache=False), whole)
    assert torch.equal(
        generate(model, ids, mask, num_beams=2), generate(model, ids, mask, num_beams=2, prefill_chunk_size=99)
    )


def test_the_cache_of_a_long_text_is_no_larger_than_that_of_a_short_one(model):
    def size(length):
        options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True, "max_new_tokens": 2}
        cache = model.generate(random_ids(1, length), **options).past_key_values
        return sum(t.numel() for pair in (cache.context_state, cache.generator_state, (cache.plan,)) for t in pair)

    assert size(5) == size(20_000)


def test_many_generations_leave_no_tensors_behind(model):
    ids = random_ids(2, 6)

    def tensors():
        gc.collect()
        return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())

    generate(model, ids, do_sample=True, max_new_tokens=3)
    before = tensors()
    for _ in range(50):
        generate(model, ids, do_sample=True, max_new_tokens=3)
    assert tensors() == before


def test_sixty_four_uneven_prompts_give_what_each_gives_alone(model):
    lengths = [1 + (7 * i) % 40 for i in range(64)]
    rows = [random_ids(1, length, seed=i)[0] for i, length in enumerate(lengths)]
    ids = torch.stack([torch.nn.functional.pad(row, (40 - len(row), 0)) for row in rows])
    mask = torch.stack([(torch.arange(40) >= 40 - length).long() for length in lengths])
    batch = generate(model, ids, mask)
    for i in range(0, 64, 7):
        assert torch.equal(generate(model, rows[i][None])[0], batch[i])


def test_generated_ids_can_be_trained_on(model):
    ids = model.generate(random_ids(1, 4), max_new_tokens=6, do_sample=True, pad_token_id=0)
    model(ids, labels=ids).loss.backward()  # tensors of inference mode would be refused
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_chat_messages_become_a_transcript(tmp_path):
    BoustroTokenizer.train_from_iterator(["user: hi"]).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "你好"},
        {"role": "user", "content": "?"},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "user: hi\nassistant: 你好\nuser: ?\nassistant:"
    ids = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
    assert tokenizer.decode(ids) == "user: hi\nassistant: 你好\nuser: ?\n"


def test_a_time_limit_ends_a_text_early(model):
    ids = random_ids(2, 6)
    assert generate(model, ids, max_new_tokens=10_000, max_time=0.2).shape[1] < 10_006


def test_sampled_beams_and_forced_ids_are_those_of_the_stock_loop(model):
    ids = random_ids(2, 6)
    sampled = [
        (torch.manual_seed(0), generate(model, ids, do_sample=True, num_beams=3, use_cache=use_cache))[1]
        for use_cache in (True, False)
    ]
    assert torch.equal(*sampled)
    forced = generate(model, ids, forced_eos_token_id=7, max_new_tokens=4)
    assert forced[:, -1].tolist() == [7, 7]
