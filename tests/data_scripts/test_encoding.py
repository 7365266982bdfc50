import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, TokenizersBackend

from boustro.data_scripts.encoding import CharacterEncoder, encode_corpus
from boustro.data_scripts.errors import DataError
from boustro.tokenization_boustro import BoustroTokenizer

TOKENIZER = BoustroTokenizer.train_from_iterator(["Hello, world!\n\t", "你好，世界。", "é😀\x00"])
ENCODER = CharacterEncoder(TOKENIZER)
ANYTHING = st.text(st.characters(codec=None) | st.sampled_from("Helo wrd你好é\u0301\n"))


def expected_ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(ANYTHING)
def test_ids_are_the_tokenizers(text):
    assert ENCODER.encode(text).tolist() == expected_ids(text)


@pytest.mark.parametrize("text", ["", "<pad><bos><0x41>", "\r\n", "a\ud800b", "\ud83d\ude00", "👨‍👩‍👧 é e\u0301"])
def test_ids_of_hard_texts(text):
    assert ENCODER.encode(text).tolist() == expected_ids(text)


def test_ids_have_the_smallest_type():
    small = BoustroTokenizer.train_from_iterator(["abc"])
    assert CharacterEncoder(small).encode("abc").dtype == np.uint16
    large = BoustroTokenizer.train_from_iterator(["".join(map(chr, range(0x10000, 0x10000 + 65_536)))])
    assert CharacterEncoder(large).encode("abc").dtype == np.uint32


def test_word_starts_of_unknown_characters_are_at_their_first_byte():
    ids, flags = ENCODER.encode_with_word_starts("Hé 北京 o")
    assert ids.tolist() == expected_ids("Hé 北京 o")
    assert flags.tolist() == [1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1]


@given(ANYTHING)
def test_word_starts_are_those_of_aligned_offsets(text):
    encoding = TOKENIZER(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, flags = ENCODER.encode_with_word_starts(text)
    characters = max([end for _, end in encoding["offset_mapping"]], default=0)
    assert len(ids) == len(flags)
    starts = {start for (start, _), flag in zip(encoding["offset_mapping"], flags, strict=True) if flag}
    assert starts <= set(range(characters))
    assert flags[:1].all()


def test_batches_are_encoded_row_by_row():
    texts = ["Hello", "", "你好 北京", "x\ud83d\ude00", "\n a"]
    batch = ENCODER.encode_batch({"text": texts})
    for row, text in enumerate(texts):
        ids, flags = ENCODER.encode_with_word_starts(text)
        assert batch["input_ids"][row].tolist() == ids.tolist() == expected_ids(text)
        assert batch["word_starts"][row].tolist() == flags.tolist()
    assert batch["characters"].tolist() == [5, 0, 5, 2, 3]
    assert batch["bytes"].tolist() == [5, 0, 13, 5, 3]
    assert batch["unknown_characters"].tolist() == [0, 0, 2, 1, 1]


@pytest.mark.parametrize("num_proc", [1, 2])
def test_corpus_arrays(num_proc):
    texts = ["Hello", "你好 北京", "d"]
    corpus = encode_corpus(Dataset.from_dict({"text": texts}), ENCODER, num_proc)
    parts = [ENCODER.encode_with_word_starts(text) for text in texts]
    np.testing.assert_array_equal(corpus.ids, np.concatenate([ids for ids, _ in parts]))
    np.testing.assert_array_equal(corpus.word_starts, np.concatenate([flags for _, flags in parts]))
    assert corpus.ids.dtype == np.uint16 and corpus.word_starts.dtype == np.uint8
    assert corpus.offsets.dtype == np.int64 and corpus.offsets.tolist() == [0, 5, 14, 15]
    assert (corpus.characters, corpus.bytes, corpus.unknown_characters) == (11, 19, 2)


def test_a_tokenizer_loaded_without_our_code_will_do(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    encoder = CharacterEncoder(AutoTokenizer.from_pretrained(tmp_path))
    assert encoder.encode("Hello é<pad>").tolist() == expected_ids("Hello é<pad>")


def test_a_tokenizer_of_words_is_refused():
    words = TokenizersBackend(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))
    with pytest.raises(DataError, match=r"no character tokenizer: it has no byte token <0x00>.*Give a Boustro"):
        CharacterEncoder(words)


def test_a_tokenizer_that_merges_characters_is_refused():
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"A": 256, "b": 257, "Ab": 258}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("A", "b")], byte_fallback=True))
    backend.decoder = decoders.ByteFallback()
    with pytest.raises(DataError, match="does not give each character its own id"):
        CharacterEncoder(TokenizersBackend(tokenizer_object=backend))


def test_a_tokenizer_that_reads_special_names_in_text_is_refused():
    reading = BoustroTokenizer.train_from_iterator(["abc"])
    reading.split_special_tokens = False
    with pytest.raises(DataError, match="does not give each character its own id"):
        CharacterEncoder(reading)
