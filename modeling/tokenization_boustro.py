"""Character tokenizer: one token a known character, UTF-8 bytes for every other one, any string round-trips.

    tokenizer = BoustroTokenizer.train_from_iterator(texts, min_frequency=2)
    tokenizer(["Hello", "你好 😀"], padding=True, return_offsets_mapping=True)

It is a `tokenizers` BPE model without merges, so a saved tokenizer is an ordinary `tokenizer.json` that
`AutoTokenizer` loads without this file. What is loaded that way encodes and decodes the same, but has none of
the methods below and raises TypeError on lone surrogates; `BoustroTokenizer.from_pretrained` has both.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from transformers import BatchEncoding, TokenizersBackend

PAD_TOKEN, BOS_TOKEN, EOS_TOKEN = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")  # ids 0, 1, 2
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))  # ids 3 .. 258
FIRST_CHARACTER_ID = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)

# A transcript: "user: Hello", a line a message. No special token marks a turn, so that any chat log is training data.
CHAT_TEMPLATE = """\
{% for message in messages %}{% set content = message['content'] or '' %}{{ message['role'] + ': ' }}\
{% if content is string %}{{ content }}\
{% else %}{{ content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}{% endif %}\
{{ '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""

# Word-start codes: a token inside a word, at its start, or of which nothing is known.
INSIDE, START, UNKNOWN = 0, 1, 2


class BoustroTokenizer(TokenizersBackend):
    """A character tokenizer with byte fallback.

    Ids: `<pad>` 0, `<bos>` 1, `<eos>` 2, the bytes `<0x00>`..`<0xFF>` 3..258, then the known characters by
    falling frequency. A call puts `<bos>` in front (unless `add_special_tokens=False`), adds no `<eos>`, and
    pads on the left. A special token's name inside a text is text. Lone surrogates, which no encoding can
    carry, become U+FFFD; offsets count the characters of the repaired text (see `repair_surrogates`).
    """

    @classmethod
    def train_from_iterator(
        cls, texts: Iterable[str], *, min_frequency: int = 1, max_vocab_size: int | None = None
    ) -> "BoustroTokenizer":
        """Builds a tokenizer whose known characters are those of `texts`; of no texts, one of bytes only.

        Args:
            texts: the corpus, one string at a time.
            min_frequency: a character seen less often is left to the byte tokens.
            max_vocab_size: the most ids in all, special and byte tokens included; the rarest characters are
                dropped first (of equally rare ones those with the highest code points).

        Raises:
            TypeError: if `texts` is a single string or yields anything but strings.
            ValueError: if `min_frequency` < 1 or `max_vocab_size` leaves no room for a character.
        """
        return cls.train_from_counts(
            _count_characters(texts), min_frequency=min_frequency, max_vocab_size=max_vocab_size
        )

    @classmethod
    def train_from_counts(
        cls, counts: Mapping[str, int], *, min_frequency: int = 1, max_vocab_size: int | None = None
    ) -> "BoustroTokenizer":
        """As `train_from_iterator`, of a corpus whose characters have been counted."""
        if min_frequency < 1:
            raise ValueError(
                f"min_frequency is {min_frequency}, expected 1 or more: "
                "with 1 every character of the corpus becomes known."
            )
        if max_vocab_size is not None and max_vocab_size <= FIRST_CHARACTER_ID:
            raise ValueError(
                f"max_vocab_size is {max_vocab_size}, expected {FIRST_CHARACTER_ID + 1} or more, because the "
                f"{FIRST_CHARACTER_ID} special and byte tokens count too, or None for no limit."
            )
        frequent = [character for character in counts if counts[character] >= min_frequency]
        ranked = sorted(frequent, key=lambda character: (-counts[character], character))
        limit = None if max_vocab_size is None else max_vocab_size - FIRST_CHARACTER_ID
        return cls._from_characters(ranked[:limit])

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[str | Sequence[str]],
        vocab_size: int | None,
        length: int | None = None,
        new_special_tokens: None = None,
        special_tokens_map: None = None,
        min_frequency: int = 1,
    ) -> "BoustroTokenizer":
        """Builds a tokenizer for another corpus with this one's settings (the signature is transformers').

        Args:
            text_iterator: texts, or batches of texts.
            vocab_size: as `max_vocab_size` of `train_from_iterator`.
            length: ignored (the size of the corpus, for a progress bar).
            new_special_tokens, special_tokens_map: not supported. Tokens added to this tokenizer by hand are
                not carried over either: call `add_special_tokens` on the result.
            min_frequency: as in `train_from_iterator`.

        Raises:
            TypeError, ValueError: as `train_from_iterator`; ValueError if special tokens are to be changed.
        """
        if new_special_tokens is not None or special_tokens_map is not None:
            raise ValueError(
                "new_special_tokens and special_tokens_map are not supported: the special tokens are always "
                f"{', '.join(SPECIAL_TOKENS)}. Call add_special_tokens() on the new tokenizer to add others."
            )
        tokenizer = self.train_from_iterator(
            _flatten(text_iterator), min_frequency=min_frequency, max_vocab_size=vocab_size
        )
        return self._from_characters(
            tokenizer.characters,
            padding_side=self.padding_side,
            truncation_side=self.truncation_side,
            model_max_length=self.model_max_length,
            chat_template=self.chat_template,
        )

    @property
    def characters(self) -> list[str]:
        """The known characters in the order of their ids; the first has id 259."""
        vocabulary = self.backend_tokenizer.get_vocab(with_added_tokens=False)
        return sorted(vocabulary, key=vocabulary.__getitem__)[FIRST_CHARACTER_ID:]

    @staticmethod
    def align_word_starts(offsets: Sequence, flags: Sequence) -> np.ndarray | list[np.ndarray]:
        """Turns the word starts of a text's characters into those of its tokens.

        Every character hands its flag to its token; of an unknown character the first byte token gets
        the flag and the others are INSIDE. Special tokens, pads among them, are UNKNOWN.

        Args:
            offsets: (T, 2) `offset_mapping` of one encoding, or a batch of them.
            flags: 0 or 1 for each character of the encoded text, 1 where a word starts; for a batch one such
                row a text.

        Returns:
            uint8 codes (T,), INSIDE, START or UNKNOWN; for a batch a list of them, one a text.

        Raises:
            ValueError: if the flags are not 0 or 1, or do not reach as far as the offsets.
        """
        if len(flags) > 0 and np.ndim(flags[0]) == 1:
            return [_align(row, row_flags) for row, row_flags in zip(offsets, flags, strict=True)]
        return _align(offsets, flags)

    @classmethod
    def _from_characters(cls, characters: Sequence[str], **settings) -> "BoustroTokenizer":
        defaults = {
            "padding_side": "left",
            "split_special_tokens": True,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            "chat_template": CHAT_TEMPLATE,
        }
        return cls(
            tokenizer_object=_build_backend(characters),
            pad_token=PAD_TOKEN,
            bos_token=BOS_TOKEN,
            eos_token=EOS_TOKEN,
            **(defaults | settings),
        )

    # Every way of encoding in transformers ends here.
    def _encode_plus(self, text, text_pair=None, **kwargs) -> BatchEncoding:
        return super()._encode_plus(_repair_all(text), _repair_all(text_pair), **kwargs)

    # Called by save_pretrained when the config is written and before anything is uploaded.
    def _save_pretrained(
        self,
        save_directory: str,
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        config_file = Path(file_names[0])
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config["tokenizer_class"] = TokenizersBackend.__name__
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        config_file.write_text(text, encoding="utf-8")
        # The backend remembers the last call's padding and truncation; other runtimes apply what is saved.
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.no_truncation()
        return super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)


def repair_surrogates(text: str) -> str:
    """Makes a string encodable: a lone surrogate becomes U+FFFD, a pair of them the character it stands for.

    Text that is already encodable is returned as it is. Only a pair changes the length (by one).
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _repair_all(text):
    """`repair_surrogates` for whatever a tokenizer call accepts: a string, None, nested lists and tuples."""
    if isinstance(text, str):
        return repair_surrogates(text)
    if isinstance(text, (list, tuple)):
        return type(text)(_repair_all(part) for part in text)
    return text


def _count_characters(texts: Iterable[str]) -> Counter:
    if isinstance(texts, str):
        raise TypeError("texts is a single string, expected an iterable of strings: pass [text].")
    counts = Counter()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"text {index} of the corpus is of type {type(text).__name__}, expected str: "
                'pass the strings themselves, for example (row["text"] for row in dataset).'
            )
        counts.update(repair_surrogates(text))
    return counts


def _flatten(texts: Iterable) -> Iterator:
    for text in texts:
        if isinstance(text, (list, tuple)):
            yield from text
        else:
            yield text


def _build_backend(characters: Sequence[str]) -> Tokenizer:
    vocabulary = {token: token_id for token_id, token in enumerate((*SPECIAL_TOKENS, *BYTE_TOKENS, *characters))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A",
        pair=f"{BOS_TOKEN} $A $B:1",
        special_tokens=[(BOS_TOKEN, vocabulary[BOS_TOKEN])],
    )
    return backend


def _align(offsets: Sequence, flags: Sequence) -> np.ndarray:
    spans = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)  # (T, 2)
    flags = np.asarray(flags)  # (characters,)
    if not np.isin(flags, (INSIDE, START)).all():
        raise ValueError(f"the word-start flags hold {np.unique(flags).tolist()}, expected only 0 and 1.")
    if spans.max(initial=0) > len(flags):
        raise ValueError(
            f"the offsets reach character {spans.max()}, but there are word-start flags for {len(flags)}: "
            "pass one flag for each character of the very text that was encoded."
        )
    of_text = np.flatnonzero(spans[:, 0] < spans[:, 1])  # special tokens have empty spans
    characters = spans[of_text, 0]
    is_later_byte = np.diff(characters, prepend=-1) == 0
    codes = np.full(len(spans), UNKNOWN, dtype=np.uint8)
    codes[of_text] = np.where(is_later_byte, INSIDE, flags[characters])
    return codes
