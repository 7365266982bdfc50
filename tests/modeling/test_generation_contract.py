"""What generate() promises beside its tokens: refusals with a reason, latents on request, load, chat."""

import gc
import logging

import pytest
import torch
from transformers import AutoTokenizer, DynamicCache, GenerationConfig, TextStreamer

from boustro import BoustroTokenizer, generation_boustro
from boustro.cache_boustro import BoustroCache
from boustro.characters_boustro import FIRST_BYTE_ID
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
    with pytest.raises(ValueError, match="segment_starts was given, but it is for model"):
        generate(model, random_ids(1, 4), segment_starts=torch.ones(1, 4, dtype=torch.bool))
    cache, ids = model(random_ids(1, 4)).past_key_values, random_ids(1, 5)
    with pytest.raises(ValueError, match="past_key_values was given with use_cache=False"):
        generate(model, ids, past_key_values=cache, use_cache=False)
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


def test_an_empty_cache_is_left_empty_without_use_cache(model):
    ids, cache = random_ids(2, 6), BoustroCache()
    assert torch.equal(generate(model, ids, past_key_values=cache, use_cache=False), generate(model, ids))
    assert cache.get_seq_length() == 0


@pytest.mark.parametrize("columns", [1, 18])
def test_ids_that_a_cache_has_read_already_are_refused_with_a_sentence(model, columns):
    options = {"max_new_tokens": 13, "do_sample": False, "pad_token_id": 0}
    output = model.generate(random_ids(1, 6), return_dict_in_generate=True, **options)
    with pytest.raises(ValueError, match=f"the ids have {columns} columns, but past_key_values has read 18 already"):
        model.generate(output.sequences[:, :columns], past_key_values=output.past_key_values, **options)


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
    parts = [{"type": "text", "text": "h"}, {"type": "image"}, {"type": "text", "text": "i"}]
    for content, wanted in ((parts, "user: hi\n"), (None, "user: \n")):
        assert tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False) == wanted
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "user: hi\nassistant: 你好\nuser: ?\nassistant: "
    ids = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
    assert tokenizer.decode(ids) == "user: hi\nassistant: 你好\nuser: ?\n"


@pytest.mark.parametrize(("rows", "options"), [(16, {}), (3, {"num_beams": 3})])
def test_a_time_limit_ends_texts_early_and_between_characters(rows, options):
    tokenizer = BoustroTokenizer.train_from_iterator([""])
    model = small_model(vocab_size=len(tokenizer))
    model.lm_head.bias.data[FIRST_BYTE_ID + 0xE0 : FIRST_BYTE_ID + 0xF0] += 20  # nearly always begins a new character
    found = generate(model, random_ids(rows, 6), max_new_tokens=4_000, max_time=0.2, do_sample=True, **options)
    assert found.shape[1] < 3_000
    assert all("\ufffd" not in text for text in tokenizer.batch_decode(found))


def test_a_length_for_the_whole_text_takes_the_place_of_the_models_own_number_of_new_characters(model):
    model.generation_config.max_new_tokens = 30
    ids, options = random_ids(2, 6), {"pad_token_id": 0}
    lengths = [
        model.generate(ids, max_length=9, **options).shape[1],
        model.generate(ids, generation_config=GenerationConfig(max_length=9, **options)).shape[1],
        model.generate(ids, GenerationConfig(max_length=9, **options)).shape[1],
        model.generate(ids, generation_config=GenerationConfig(max_length=9, max_new_tokens=4, **options)).shape[1],
        model.generate(ids, max_length=9, max_new_tokens=4, **options).shape[1],
        model.generate(ids, generation_config=GenerationConfig(temperature=0.9, do_sample=True, **options)).shape[1],
    ]
    assert lengths == [9, 9, 9, 10, 10, 36]


@pytest.mark.parametrize("changes", [{}, {"latent_size": 0}])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_that_may_become_longer_begins_alike(changes, beams):
    model, ids = small_model(**changes), random_ids(3, 6)
    short, long = (
        (torch.manual_seed(1), generate(model, ids, do_sample=True, max_new_tokens=new, max_length=None))[1]
        for new in (12, 300)
    )
    assert torch.equal(long[:, :12], short)


def test_an_empty_cache_is_filled_and_changes_nothing(model):
    ids = random_ids(2, 8)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])  # padded on the right
    cache, options = BoustroCache(), {"max_new_tokens": 7, "pad_token_id": 0, "do_sample": False}
    wanted = model.generate(ids, attention_mask=mask, **options)
    found = model.generate(ids, attention_mask=mask, past_key_values=cache, **options)
    assert torch.equal(found, wanted)
    assert cache.get_seq_length() == found.shape[1] - 1


def test_a_cache_that_does_not_fit_is_refused_in_a_sentence(model):
    ids, options = random_ids(2, 8), {"max_new_tokens": 3, "pad_token_id": 0}
    with pytest.raises(ValueError, match="past_key_values is a DynamicCache, expected the BoustroCache"):
        model.generate(ids, past_key_values=DynamicCache(), **options)
    first = model.generate(ids, return_dict_in_generate=True, **options)
    with pytest.raises(ValueError, match=r"holds the state of 2 rows, expected 6: .*repeat_interleave"):
        model.generate(first.sequences, past_key_values=first.past_key_values, num_beams=3, **options)


def test_embeddings_padded_on_the_right_are_those_padded_on_the_left(model):
    ids = random_ids(2, 8)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    order = torch.argsort(mask, dim=1, stable=True)
    options = {"max_new_tokens": 6, "pad_token_id": 0, "do_sample": False}
    embeds = model.get_input_embeddings()(ids)
    right = model.generate(inputs_embeds=embeds, attention_mask=mask, **options)
    left = model.generate(
        inputs_embeds=embeds[torch.arange(2)[:, None], order], attention_mask=mask.sort()[0], **options
    )
    assert torch.equal(right, left)


def test_embeddings_beside_ids_are_read_once(model, monkeypatch):
    ids = random_ids(2, 30)
    embeds, options = model.get_input_embeddings()(ids), {"max_new_tokens": 2, "pad_token_id": 0}
    monkeypatch.setattr(generation_boustro, "PREFILL", 10)
    found = model.generate(ids, inputs_embeds=embeds, return_dict_in_generate=True, **options)
    assert found.past_key_values.get_seq_length() == 31


@pytest.mark.parametrize("shape", [(2, 5), (1, 8), (2, 9), (8,)])
def test_a_mask_of_another_shape_is_refused_in_a_sentence(model, shape):
    ids, mask = random_ids(2, 8), torch.ones(shape, dtype=torch.long)
    mask[..., 0] = 0
    with pytest.raises(ValueError, match="attention_mask has the shape"):
        model.generate(ids, attention_mask=mask, max_new_tokens=2, pad_token_id=0)
    if shape != (2, 9):
        with pytest.raises(ValueError, match=r"attention_mask has the shape .* expected \(2, 8\)"):
            model(ids, attention_mask=mask)
    for name in ("target_ids", "word_starts"):
        with pytest.raises(ValueError, match=f"{name} has the shape"):
            model(ids, **{"target_ids": ids, name: torch.zeros(shape, dtype=torch.long)})


def test_sampled_beams_and_forced_ids_are_those_of_the_stock_loop(model):
    ids = random_ids(2, 6)
    sampled = [
        (torch.manual_seed(0), generate(model, ids, do_sample=True, num_beams=3, use_cache=use_cache))[1]
        for use_cache in (True, False)
    ]
    assert torch.equal(*sampled)
    forced = generate(model, ids, forced_eos_token_id=7, max_new_tokens=4)
    assert forced[:, -1].tolist() == [7, 7]
