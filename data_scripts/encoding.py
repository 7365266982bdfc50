"""Text to ids at the speed of a table look-up, and the corpus that comes out of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from boustro.tokenization_boustro import BYTE_TOKENS, INSIDE, repair_surrogates

from .errors import DataError
from .mapping import apply
from .segmentation import DEFAULT_SEGMENTER, load_segmenter, word_starts_of_rows

_UNKNOWN = -1
_CODE_POINTS = 0x110000
# What no tokenizer but a lossless one-token-a-character tokenizer gets right.
_PROBE = "Ab  c\r\n\x00é e\u0301中文😀 <0x41> x"


class CharacterEncoder:
    """Encodes as the tokenizer it is built from does without special tokens, by looking characters up.

    Args:
        tokenizer: a fast tokenizer of one token a character with byte fallback, such as `BoustroTokenizer`.
        segmenter: name of the function that cuts Han text into words (see `load_segmenter`).

    Attributes:
        id_type: the smallest unsigned numpy type that holds every id.

    Raises:
        DataError: if the tokenizer is of another kind, found by its vocabulary and by encoding a probe, or the
            segmenter is not there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, segmenter: str = DEFAULT_SEGMENTER):
        load_segmenter(segmenter)  # raises for one that is not there
        self._segmenter = segmenter  # the function itself may not be picklable
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in BYTE_TOKENS if token not in vocabulary]
        if missing:
            raise DataError(_not_by_character(tokenizer, f"it has no byte token {missing[0]}"))
        self.id_type = np.min_scalar_type(max(vocabulary.values()))
        self._byte_ids = np.array([vocabulary[token] for token in BYTE_TOKENS], dtype=self.id_type)  # (256,)
        self._ids = np.full(_CODE_POINTS, _UNKNOWN, dtype=np.int32)
        for token, token_id in vocabulary.items():
            if len(token) == 1:
                self._ids[ord(token)] = token_id
        self._check(tokenizer)

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids (T,) of a text, T >= its number of characters, of type `id_type`."""
        return self._spell(_code_points(repair_surrogates(text)))

    def encode_with_word_starts(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids (T,) and their word-start codes (T,), uint8 INSIDE or START.

        The later bytes of a character that is spelt in bytes are INSIDE.
        """
        row = self.encode_batch({"text": [text]})
        return row["input_ids"][0], row["word_starts"][0]

    def encode_batch(self, batch: dict) -> dict:
        """For `datasets.map(batched=True)`: from "text" (T,) ids and word starts, and counts, a row each.

        Columns: "input_ids", "word_starts", "characters", "bytes" (in UTF-8), "unknown_characters".
        """
        texts = [repair_surrogates(text) for text in batch["text"]]
        bounds = np.cumsum([0, *map(len, texts)])  # of the rows, in characters
        codes = _code_points("".join(texts))
        unknown = self._ids[codes] == _UNKNOWN
        lengths = np.where(unknown, _utf8_lengths(codes), 1)
        ends = np.cumsum(lengths)
        flags = np.full(lengths.sum(), INSIDE, dtype=np.uint8)
        flags[ends - lengths] = word_starts_of_rows(texts, load_segmenter(self._segmenter))
        cuts = np.concatenate([[0], ends])[bounds[1:-1]]  # between the rows, in ids
        return {
            "input_ids": np.split(self._spell(codes), cuts),
            "word_starts": np.split(flags, cuts),
            "characters": np.diff(bounds),
            "bytes": _sum_rows(_utf8_lengths(codes), bounds),
            "unknown_characters": _sum_rows(unknown, bounds),
        }

    def _spell(self, codes: np.ndarray) -> np.ndarray:
        """The ids (T,) of code points (C,), of an unknown one those of its bytes."""
        ids = self._ids[codes]
        unknown = ids == _UNKNOWN
        if unknown.any():
            lengths = np.where(unknown, _utf8_lengths(codes), 1)
            utf8 = codes[unknown].tobytes().decode("utf-32-le").encode("utf-8")
            ids = np.repeat(ids, lengths)
            ids[np.repeat(unknown, lengths)] = self._byte_ids[np.frombuffer(utf8, dtype=np.uint8)]
        return ids.astype(self.id_type)

    def _check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        probe = _PROBE + "".join(tokenizer.get_added_vocab())
        expected = tokenizer(probe, add_special_tokens=False)["input_ids"]
        if self.encode(probe).tolist() != list(expected):
            raise DataError(_not_by_character(tokenizer, "it does not give each character its own id"))


@dataclass(frozen=True)
class EncodedCorpus:
    """Documents as one array of ids, without special tokens.

    Attributes:
        ids: (N,) of the smallest unsigned type that holds the vocabulary.
        word_starts: (N,) uint8, START (1) where a word starts, else INSIDE (0).
        offsets: (D + 1,) int64; document d is `ids[offsets[d]:offsets[d + 1]]`.
        characters: length of the text; N is larger where characters are spelt in bytes.
        bytes: length of the text in UTF-8.
        unknown_characters: characters that are spelt in bytes.
    """

    ids: np.ndarray
    word_starts: np.ndarray
    offsets: np.ndarray
    characters: int
    bytes: int
    unknown_characters: int


def encoded_features(id_type: np.dtype) -> Features:
    """The columns of encoded rows, ids in the smallest type that holds them."""
    counts = dict.fromkeys(("characters", "bytes", "unknown_characters"), Value("int32"))
    ids, starts = List(Value(str(id_type))), List(Value("uint8"))
    return Features({"text": Value("string"), "input_ids": ids, "word_starts": starts, **counts})


def encode_corpus(dataset: Dataset, encoder: CharacterEncoder, num_proc: int = 1) -> EncodedCorpus:
    """Segments and encodes the column "text" of a dataset of at least one row."""
    encoded = apply(
        dataset,
        encoder.encode_batch,
        description="Encoding",
        num_proc=num_proc,
        remove_columns=["text"],
    )
    return corpus_of(encoded)


def corpus_of(encoded: Dataset) -> EncodedCorpus:
    """The rows of a dataset with the columns of `encoded_features` as one corpus, copied into memory."""
    lengths = _collect(encoded, "input_ids", lambda chunk: chunk.value_lengths())
    return EncodedCorpus(
        ids=_collect(encoded, "input_ids", lambda chunk: chunk.flatten()),
        word_starts=_collect(encoded, "word_starts", lambda chunk: chunk.flatten()),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        **{name: _sum(encoded, name) for name in ("characters", "bytes", "unknown_characters")},
    )


def _sum(dataset: Dataset, column: str) -> int:
    return int(_collect(dataset, column, lambda chunk: chunk).sum(dtype=np.int64))


def _collect(dataset: Dataset, column: str, part: Callable) -> np.ndarray:
    """One array of what `part` makes of each Arrow chunk of a column."""
    return np.concatenate([part(chunk).to_numpy() for chunk in dataset.data.column(column).chunks])


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _utf8_lengths(codes: np.ndarray) -> np.ndarray:
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)


def _sum_rows(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums (R,) of the values (C,) of each row, of which `bounds` (R + 1,) are the ends."""
    return np.diff(np.concatenate([[0], np.cumsum(values)])[bounds])


def _not_by_character(tokenizer: PreTrainedTokenizerBase, what: str) -> str:
    return (
        f"The tokenizer ({type(tokenizer).__name__}, {len(tokenizer)} ids) is no character tokenizer: {what}. "
        "Give a BoustroTokenizer, or none to have one made from the training text."
    )
