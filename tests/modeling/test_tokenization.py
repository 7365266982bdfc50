import json
import logging
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, TextStreamer, TokenizersBackend

from boustro.tokenization_boustro import (
    BYTE_TOKENS,
    FIRST_CHARACTER_ID,
    INSIDE,
    START,
    UNKNOWN,
    BoustroTokenizer,
    repair_surrogates,
)

CORPUS = ["the cat sat on the mat.\n", "你好，世界！<pad><0x41>", "naïve\r\n\ttab"]
PAD, BOS, EOS = 0, 1, 2
AWKWARD_TEXTS = [
    "",
    " ",
    "  two  spaces  ",
    " , no clean-up ! it 's n't .",
    "CR\rLF\nCRLF\r\nend\r\n",
    "\x00\x01\x1b\x7f\x85\u2028\u2029",
    "\ufeffBOM inside \ufeff and zero width\u200b\u200d",
    "e\u0301 \u0301\u0301 Z̷a̶l̴g̵o",
    "👩‍👩‍👧‍👦🏳️‍🌈🇨🇳👍🏽",
    "﷽ ﬁ Å Å ㎏ İ ß",
    "\U0010ffff\ue000\ufffd",
    "▁Ġ##",
]
# surrogates included, and characters of the corpus made likely
any_text = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from("".join(CORPUS) + "é😀\ud83d\ude00\x00")
)


@pytest.fixture(scope="module")
def tokenizer():
    return BoustroTokenizer.train_from_iterator(CORPUS)


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def byte_ids(text):
    return [3 + byte for byte in text.encode()]


# Round trip


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_decoding_returns_awkward_texts_exactly(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == BOS
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode([*ids, EOS, PAD], skip_special_tokens=True) == text


@settings(max_examples=300, deadline=None)
@given(text=any_text)
def test_decoding_returns_any_repaired_text_exactly(tokenizer, text):
    repaired = repair_surrogates(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == repaired
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == repaired


@pytest.mark.parametrize("literal", ["<pad>", "<bos>", "<eos>", "<0x41>", "<0xE4><0xBD><0xA0>", "a<pad>b<pad>"])
def test_names_of_tokens_inside_a_text_are_text(tokenizer, literal):
    ids = tokenizer(literal, add_special_tokens=False)["input_ids"]
    assert not {PAD, BOS, EOS} & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == literal
    # every character is known from the corpus or falls back to exactly one byte
    assert len(ids) == len(literal)


# Lone surrogates


def test_repair_replaces_lone_surrogates_and_joins_pairs():
    assert repair_surrogates("a\ud800b\udfff") == "a\ufffdb\ufffd"
    assert repair_surrogates("\udc00\ud800") == "\ufffd\ufffd"
    assert repair_surrogates("\ud83d\ude00!\ud83d") == "😀!\ufffd"
    assert repair_surrogates("\ufeff\ud800") == "\ufeff\ufffd"
    assert repair_surrogates("plain 😀") == "plain 😀"


@given(text=st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud800\udbff\udc00\udfff")))
def test_repair_agrees_with_a_regular_expression(text):
    def join(pair):
        high, low = map(ord, pair.group())
        return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)

    joined = re.sub("[\ud800-\udbff][\udc00-\udfff]", join, text)
    assert repair_surrogates(text) == re.sub("[\ud800-\udfff]", "\ufffd", joined)


def test_every_way_of_calling_accepts_a_lone_surrogate(tokenizer):
    expected = [BOS, *tokenizer.encode("a", add_special_tokens=False), *byte_ids("\ufffd")]
    assert tokenizer("a\ud800")["input_ids"] == expected
    assert tokenizer(["a\ud800", "a"])["input_ids"][0] == expected
    assert tokenizer.encode("a\udfff") == expected
    assert tokenizer.tokenize("\udfff") == ["<0xEF>", "<0xBF>", "<0xBD>"]
    assert tokenizer("a", "\ud800")["input_ids"] == expected
    assert tokenizer([("a", "\ud800")])["input_ids"] == [expected]
    assert tokenizer(["a", "\ud800"], is_split_into_words=True)["input_ids"] == expected
    assert tokenizer(text_target="a\ud800")["input_ids"] == expected


# Vocabulary


def test_ids_are_specials_then_bytes_then_characters_by_frequency_and_code_point():
    tokenizer = BoustroTokenizer.train_from_iterator(["ccc", "baba", "é中"])
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "<bos>", "<eos>"]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (PAD, BOS, EOS)
    assert tokenizer.convert_ids_to_tokens(list(range(3, 259))) == list(BYTE_TOKENS)
    assert tokenizer.characters == ["c", "a", "b", "é", "中"]
    assert tokenizer.encode("中c") == [BOS, FIRST_CHARACTER_ID + 4, FIRST_CHARACTER_ID]
    assert len(tokenizer) == tokenizer.vocab_size == FIRST_CHARACTER_ID + 5 == 264


def test_the_order_of_the_corpus_does_not_matter():
    one = BoustroTokenizer.train_from_iterator(CORPUS)
    other = BoustroTokenizer.train_from_iterator(text[::-1] for text in reversed(CORPUS))
    assert one.get_vocab() == other.get_vocab()


def test_unknown_characters_are_their_utf8_bytes(tokenizer):
    assert tokenizer.encode("é😀", add_special_tokens=False) == byte_ids("é😀")


def test_min_frequency_leaves_rare_characters_to_the_bytes():
    tokenizer = BoustroTokenizer.train_from_iterator(["aaabb", "c"], min_frequency=2)
    assert tokenizer.characters == ["a", "b"]
    assert tokenizer.encode("c") == [BOS, *byte_ids("c")]


def test_max_vocab_size_counts_all_ids_and_drops_the_rarest():
    tokenizer = BoustroTokenizer.train_from_iterator(["aaabbzc"], max_vocab_size=262)
    assert len(tokenizer) == 262
    assert tokenizer.characters == ["a", "b", "c"]
    assert BoustroTokenizer.train_from_iterator(["ab"], max_vocab_size=10_000).characters == ["a", "b"]


def test_an_empty_corpus_gives_bytes_only():
    tokenizer = BoustroTokenizer.train_from_iterator([])
    assert len(tokenizer) == FIRST_CHARACTER_ID
    assert tokenizer.decode(tokenizer.encode("中 a"), skip_special_tokens=True) == "中 a"


def test_surrogates_in_the_corpus_count_as_what_they_are_repaired_to():
    assert BoustroTokenizer.train_from_iterator(["\ud800"]).characters == ["\ufffd"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_frequency": 0}, "min_frequency is 0, expected 1 or more"),
        ({"max_vocab_size": 259}, "max_vocab_size is 259, expected 260 or more"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BoustroTokenizer.train_from_iterator(CORPUS, **options)


@pytest.mark.parametrize(
    "texts, message",
    [
        (["a", {"text": "b"}], r"text 1 of the corpus is of type dict, expected str"),
        ([b"a"], r"text 0 of the corpus is of type bytes, expected str"),
        ("corpus.txt", r"pass \[text\]"),
    ],
)
def test_a_corpus_of_anything_but_strings_is_refused(texts, message):
    with pytest.raises(TypeError, match=message):
        BoustroTokenizer.train_from_iterator(texts)


def test_train_new_from_iterator_keeps_bytes_characters_and_settings(tokenizer):
    right_padding = BoustroTokenizer.train_from_iterator(CORPUS)
    right_padding.padding_side = "right"
    new = right_padding.train_new_from_iterator([["xyx", "xy"], ["xz"]], vocab_size=261)
    assert type(new) is BoustroTokenizer
    assert new.characters == ["x", "y"]
    assert new.encode("yx<eos>") == [BOS, 260, 259, *byte_ids("<eos>")]
    assert new.padding_side == "right"
    assert new.model_input_names == tokenizer.model_input_names
    assert new.train_new_from_iterator(["aab"], None, min_frequency=2).characters == ["a"]


def test_train_new_from_iterator_refuses_other_special_tokens(tokenizer):
    with pytest.raises(ValueError, match="add_special_tokens"):
        tokenizer.train_new_from_iterator(["a"], 300, new_special_tokens=["<mask>"])
    with pytest.raises(TypeError, match="text 0 of the corpus is of type int"):
        tokenizer.train_new_from_iterator([[1]], 300)


# Batches, padding and offsets


def test_batch_equals_single_and_pads_on_the_left(tokenizer):
    texts = ["the cat", "", "你好 😀"]
    single = [tokenizer(text)["input_ids"] for text in texts]
    assert tokenizer(texts)["input_ids"] == single

    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert sorted(batch) == ["attention_mask", "input_ids"]
    width = max(map(len, single))
    assert batch["input_ids"].tolist() == [[PAD] * (width - len(ids)) + ids for ids in single]
    assert batch["attention_mask"].tolist() == [[0] * (width - len(ids)) + [1] * len(ids) for ids in single]
    assert tokenizer.decode(batch["input_ids"], skip_special_tokens=True) == texts


def test_a_pair_of_texts_is_encoded_as_one(tokenizer):
    assert tokenizer("the ", "cat")["input_ids"] == tokenizer("the cat")["input_ids"]


@settings(max_examples=100, deadline=None)
@given(text=any_text)
def test_offsets_point_at_the_characters(tokenizer, text):
    repaired = repair_surrogates(text)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    expected = []
    for position, character in enumerate(repaired):
        ids = tokenizer.encode(character, add_special_tokens=False)
        expected += [(token_id, (position, position + 1)) for token_id in ids]
    assert list(zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)) == expected


def test_long_texts_cause_no_warning(tokenizer, caplog):
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        ids = tokenizer("the cat " * 20_000)["input_ids"]
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert len(ids) == 160_001
    assert caplog.records == []


# Saving and loading

LOAD_WITHOUT_BOUSTRO = """
import json, sys
sys.modules["boustro"] = None  # importing it now fails
from transformers import AutoTokenizer

def describe(tokenizer, texts):
    batch = tokenizer(texts, padding=True, return_offsets_mapping=True)
    return {
        "class": type(tokenizer).__name__,
        "batch": dict(batch),
        "decoded": tokenizer.decode(batch["input_ids"], skip_special_tokens=True),
        "max_length": tokenizer.model_max_length,
    }

alone, beside_model, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
print(json.dumps([
    describe(AutoTokenizer.from_pretrained(alone), texts),
    # left unset, transformers asks on the terminal because of the model's code
    describe(AutoTokenizer.from_pretrained(beside_model, trust_remote_code=False), texts),
]))
"""


def test_auto_tokenizer_loads_it_in_a_process_without_boustro(tokenizer, tmp_path):
    alone, beside_model = tmp_path / "alone", tmp_path / "beside_model"
    tokenizer.save_pretrained(alone)
    tokenizer.save_pretrained(beside_model)
    auto_map = {"AutoConfig": "configuration_boustro.BoustroConfig"}
    (beside_model / "config.json").write_text(json.dumps({"model_type": "boustro", "auto_map": auto_map}))
    texts = ["the <pad> cat", "é😀 你好\r\n", "", "<0x41>"]
    process = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_WITHOUT_BOUSTRO, str(alone), str(beside_model), json.dumps(texts)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    batch = dict(tokenizer(texts, padding=True, return_offsets_mapping=True))
    expected = {
        "class": "TokenizersBackend",
        "batch": json.loads(json.dumps(batch)),
        "decoded": texts,
        "max_length": tokenizer.model_max_length,
    }
    assert json.loads(process.stdout) == [expected, expected]


def test_saved_files_ask_for_no_remote_code(saved):
    config = json.loads((saved / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "TokenizersBackend"
    assert "auto_map" not in config
    assert not list(saved.glob("*.py"))


def test_saved_files_do_not_remember_the_last_call(tokenizer, tmp_path):
    tokenizer(["the", "cat sat"], padding=True, truncation=True, max_length=4)
    tokenizer.save_pretrained(tmp_path)
    backend = json.loads((tmp_path / "tokenizer.json").read_text())
    assert backend["padding"] is None
    assert backend["truncation"] is None


def test_from_pretrained_gives_the_same_tokenizer_back(tokenizer, saved):
    loaded = BoustroTokenizer.from_pretrained(saved)
    text = "é <pad> 你\ud800"
    assert type(loaded) is BoustroTokenizer
    assert loaded.characters == tokenizer.characters
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded([text, "a"], padding=True) == tokenizer([text, "a"], padding=True)
    assert loaded.train_new_from_iterator([["ab"]], 300).characters == ["a", "b"]
    plain = AutoTokenizer.from_pretrained(saved)
    assert type(plain) is TokenizersBackend
    assert plain.encode("é <pad> 你") == loaded.encode("é <pad> 你")


def test_pickling_keeps_the_ids(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer))("é <pad> 你") == tokenizer("é <pad> 你")


# Word starts


def test_word_starts_of_tokens_worked_out_by_hand(tokenizer):
    # "the" known, " " known, 😀 four unknown bytes, 你好 known, 们 three unknown bytes
    text = "the 😀你好们"
    flags = [1, 0, 0, 1, 1, 1, 0, 0]
    encoding = tokenizer(text, return_offsets_mapping=True)
    codes = BoustroTokenizer.align_word_starts(encoding["offset_mapping"], flags)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [
        UNKNOWN,  # <bos>
        *(START, INSIDE, INSIDE),
        START,
        *(START, INSIDE, INSIDE, INSIDE),
        *(START, INSIDE),
        *(INSIDE, INSIDE, INSIDE),
    ]


def test_word_starts_tell_the_first_byte_of_the_text_from_bos(tokenizer):
    encoding = tokenizer("éé", return_offsets_mapping=True)
    codes = BoustroTokenizer.align_word_starts(encoding["offset_mapping"], [1, 1])
    assert codes.tolist() == [UNKNOWN, START, INSIDE, START, INSIDE]


def test_word_starts_of_a_batch_with_pads(tokenizer):
    texts, flags = ["é a", "", "cat"], [np.array([1, 1, 1], np.uint8), np.zeros(0, np.uint8), [1, 0, 0]]
    expected = [[2, 1, 0, 1, 1], [2, 2, 2, 2, 2], [2, 2, 1, 0, 0]]

    lists = tokenizer(texts, padding=True, return_offsets_mapping=True)["offset_mapping"]
    assert np.stack(BoustroTokenizer.align_word_starts(lists, flags)).tolist() == expected
    tensor = tokenizer(texts, padding=True, return_offsets_mapping=True, return_tensors="pt")["offset_mapping"]
    assert np.stack(BoustroTokenizer.align_word_starts(tensor, flags)).tolist() == expected

    unpadded = tokenizer(texts, return_offsets_mapping=True)["offset_mapping"]
    codes = BoustroTokenizer.align_word_starts(unpadded, flags)
    assert [row.tolist() for row in codes] == [[2, 1, 0, 1, 1], [2], [2, 1, 0, 0]]


def test_word_starts_of_a_truncated_text(tokenizer):
    encoding = tokenizer("the cat", truncation=True, max_length=4, return_offsets_mapping=True)
    codes = BoustroTokenizer.align_word_starts(encoding["offset_mapping"], [1, 0, 0, 1, 1, 0, 0])
    assert codes.tolist() == [2, 1, 0, 0]


def test_word_starts_of_nothing(tokenizer):
    encoding = tokenizer("", add_special_tokens=False, return_offsets_mapping=True)
    assert BoustroTokenizer.align_word_starts(encoding["offset_mapping"], []).tolist() == []
    assert BoustroTokenizer.align_word_starts([(0, 0)], []).tolist() == [UNKNOWN]


def test_word_starts_refuse_flags_that_do_not_fit(tokenizer):
    offsets = tokenizer("cat", return_offsets_mapping=True)["offset_mapping"]
    with pytest.raises(ValueError, match="reach character 3, but there are word-start flags for 2"):
        BoustroTokenizer.align_word_starts(offsets, [1, 0])
    with pytest.raises(ValueError, match="expected only 0 and 1"):
        BoustroTokenizer.align_word_starts(offsets, [1, 0, 2])


# Generation


def test_streaming_decodes_unfinished_bytes(tokenizer, capsys):
    text = "the 😀 cat 们 é"
    ids = tokenizer.encode(text)
    for end in range(len(ids) + 1):
        so_far = tokenizer.decode(ids[:end], skip_special_tokens=True)
        assert text.startswith(so_far.rstrip("\ufffd"))

    streamer = TextStreamer(tokenizer, skip_special_tokens=True)
    for token_id in ids:
        streamer.put(torch.tensor([token_id]))
    streamer.end()
    assert capsys.readouterr().out == text + "\n"


@given(ids=st.lists(st.integers(0, FIRST_CHARACTER_ID + 20)))
def test_any_ids_a_model_may_generate_can_be_decoded(tokenizer, ids):
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text.encode().decode() == text
    assert not any(name in text for name in ("<pad>", "<bos>", "<eos>"))
