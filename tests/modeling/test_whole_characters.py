"""Generated text is valid UTF-8 and ends with a whole character, whatever the model prefers."""

import pytest
import torch

from boustro import BoustroTokenizer
from boustro.characters_boustro import FIRST_BYTE_ID, WholeCharacters, WholeCharactersTime
from tests.conftest import small_model

TEXTS = ["é", "汉", "😀", "ࠀ", "퟿", "𐀀", "\U0010ffff", "a汉é😀"]


def as_bytes(ids):
    return bytes(i - FIRST_BYTE_ID for i in ids)


@pytest.fixture(scope="module")
def tokenizer():
    return BoustroTokenizer.train_from_iterator([])  # bytes alone


@pytest.mark.parametrize("text", TEXTS)
def test_every_byte_of_a_character_is_allowed_after_those_before_it(text):
    ids = [1, *(byte + FIRST_BYTE_ID for byte in text.encode())]
    processor = WholeCharacters(259, None, torch.device("cpu"))
    for place in range(1, len(ids)):
        scores = processor(torch.tensor([ids[:place]]), torch.zeros(1, 259))
        assert scores[0, ids[place]] == 0
        within = as_bytes(ids[1:place]).decode("utf-8", "ignore").encode() != as_bytes(ids[1:place])
        assert (scores[0, 2] == -torch.inf) == within  # the end mark


@pytest.mark.parametrize(
    "bad", [b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe4a"]
)
def test_what_is_no_utf8_is_banned(bad):
    processor = WholeCharacters(259, None, torch.device("cpu"))
    ids = [1, *(byte + FIRST_BYTE_ID for byte in bad)]
    scores = [processor(torch.tensor([ids[:n]]), torch.zeros(1, 259))[0, ids[n]] for n in range(1, len(ids))]
    assert -torch.inf in scores


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "num_return_sequences": 8},
        {"do_sample": True, "num_return_sequences": 8, "forced_eos_token_id": 2},
        {"num_beams": 3},
        {},
    ],
)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_no_text_ends_in_half_a_character(tokenizer, options, length):
    model = small_model(vocab_size=len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias[FIRST_BYTE_ID + 0x80 :] += 5  # prefers bytes of longer characters
    prompt = tokenizer("汉", return_tensors="pt")
    torch.manual_seed(0)
    out = model.generate(**prompt, max_new_tokens=length, pad_token_id=0, eos_token_id=2, **options)
    for row in out[:, prompt.input_ids.shape[1] :].tolist():
        row = row[: row.index(2)] if 2 in row else row
        whole = as_bytes(i for i in row if i >= FIRST_BYTE_ID)
        assert whole.decode(errors="ignore").encode() == whole


def test_a_prompt_that_ends_within_a_character_is_finished(tokenizer):
    model = small_model(vocab_size=len(tokenizer))
    half = tokenizer("汉", return_tensors="pt").input_ids[:, :2]  # <bos> and one byte of three
    out = model.generate(half, attention_mask=torch.ones_like(half), max_new_tokens=2, pad_token_id=0, do_sample=False)
    assert len(as_bytes(out[0, 1:].tolist()).decode()) == 1


def test_a_time_limit_waits_for_whole_characters(tokenizer):
    criterion = WholeCharactersTime(max_time=0.0, initial_timestamp=0.0)
    ids = torch.tensor([[1, *(byte + FIRST_BYTE_ID for byte in "汉😀".encode())]])
    stops = [bool(criterion(ids[:, :length], None).all()) for length in range(1, 9)]
    assert stops == [True, False, False, True, False, False, False, True]
    assert criterion(torch.tensor([[1, 70], [1, 0xE4 + FIRST_BYTE_ID]]), None).tolist() == [False, False]
    model = small_model(vocab_size=len(tokenizer))
    with torch.no_grad():
        model.lm_head.bias[FIRST_BYTE_ID + 0x80 :] += 5
    prompt = tokenizer("汉", return_tensors="pt")
    for seed in range(8):
        torch.manual_seed(seed)
        out = model.generate(**prompt, max_time=1e-3, max_new_tokens=9_999, do_sample=True, pad_token_id=0)[0, 1:]
        assert len(out) < 9_000 and as_bytes(out.tolist()).decode()
