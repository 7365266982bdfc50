"""How a split is read for an evaluation: every character once and in order, in batches of bounded size."""

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from boustro.cache_boustro import BoustroCache
from boustro.characters_boustro import continues_character
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.batches import IGNORE_INDEX, Batch, DocumentBatches, Streams, latent_noise
from boustro.data_scripts.cleaning import Cleaning
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.data_scripts.errors import DataError, as_written
from boustro.data_scripts.files import read_report
from boustro.data_scripts.prepare import prepare_whole

WINDOW_POSITIONS = 8_192  # positions of all rows in one call of the model
READING_OPTIONS = ("sample_by", "verbatim", *(field.name for field in fields(Cleaning)))


def reading_options(checkpoint: str, input_mode: str) -> tuple[dict[str, Any], int | None]:
    """How the run that made a checkpoint read its text, as the `arguments.json` in its folder tells.

    Returns fields of `DataArguments`, `input_mode` and those of `READING_OPTIONS` that are known, and the `max_length`
    of a run on documents, else None. Without that file nothing is known; of a run with another input mode, not what
    a row is. Raises `DataError` if the file is not what training wrote.
    """
    path = Path(checkpoint) / "arguments.json"
    if not path.is_file():
        return {"input_mode": input_mode}, None
    with as_written(path):
        stored = json.loads(path.read_text(encoding="utf-8"))
        same_mode, prepared = stored["input_mode"] == input_mode, stored["prepared"]
        max_length = stored["max_length"] if same_mode and input_mode == "documents" else None
    if prepared:
        stored = _options_of_preparation(Path(prepared))
    names = [name for name in READING_OPTIONS if name in stored and (same_mode or name != "sample_by")]
    return {"input_mode": input_mode, **{name: stored[name] for name in names}}, max_length


def _options_of_preparation(folder: Path) -> dict[str, Any]:
    """The options with which the text in a prepared folder was made; none, and a warning, if it is gone."""
    try:
        return read_report(folder)["options"]
    except DataError as error:
        print(f"warning: how the training text was prepared is not known ({error}).", file=sys.stderr)
        return {}


def read_corpus(files: list[str], reading: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> EncodedCorpus:
    """The text of some files, encoded; `reading` are fields of `DataArguments`. Raises `DataError` for what the user
    can mend."""
    return prepare_whole(DataArguments(train_file=files, deduplicate=False, **reading), tokenizer)[0]


def corpus_texts(corpus: EncodedCorpus, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The documents of a corpus as text."""
    bounds = zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)
    return tokenizer.batch_decode([corpus.ids[start:stop] for start, stop in bounds])


def split_batches(model: torch.nn.Module, corpus: EncodedCorpus, rows: int | None, max_length: int) -> Iterator[Batch]:
    """A split as `rows` parallel streams, whose state is to be carried, or as documents if that is None.

    Args:
        max_length: documents: the most characters of a row; longer documents are cut into pieces, each a row.
    """
    config = model.config
    if rows is None:
        count = max(WINDOW_POSITIONS // max_length, 2)
        ids = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
        batches = DocumentBatches(corpus, count, max_length, config.segment_length, seed=0, shuffle=False, **ids)
        yield from (batches.batch(0, index) for index in range(batches.steps))
        return
    streams = Streams(corpus.ids, corpus.word_starts, min(rows, len(corpus.ids)), config.bos_token_id)
    window = max(WINDOW_POSITIONS // (streams.rows * config.segment_length), 1) * config.segment_length
    for start in range(0, streams.length, window):
        yield _regular_batch(*streams.window(start, start + window), config.segment_length)


def cold_batches(model: torch.nn.Module, corpus: EncodedCorpus, segments: int, rows: int) -> Iterator[Batch]:
    """One batch of at most `rows` windows of `segments` whole segments, evenly spread over a text, each read cold.

    Nothing for a text shorter than one window.
    """
    length = model.config.segment_length
    rows = min(rows, len(corpus.ids) // (segments * length))
    if rows:
        streams = Streams(corpus.ids, corpus.word_starts, rows, model.config.bos_token_id)
        yield _regular_batch(*streams.window(0, segments * length), length)


def first_rows(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """The first `count` rows of all batches together."""
    for batch in batches:
        if count <= 0:
            return
        yield cut(batch, slice(count))
        count -= len(batch.input_ids)


def single_rows(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Every row as a batch of its own, without its padding."""
    for batch in batches:
        for row, targets in enumerate(batch.target_ids):
            length = int(np.flatnonzero(targets != IGNORE_INDEX)[-1]) + 1
            yield cut(batch, slice(row, row + 1), length)


def cut(batch: Batch, rows: slice, length: int | None = None) -> Batch:
    """Some rows of a batch, up to position `length`."""
    names = ("input_ids", "target_ids", "word_starts", "segment_starts")
    arrays = {name: getattr(batch, name) for name in names}
    arrays = {name: None if array is None else array[rows, :length] for name, array in arrays.items()}
    cold = None if batch.cold is None else batch.cold[rows]
    return replace(batch, **arrays, cold=cold, normaliser=int((arrays["target_ids"] != IGNORE_INDEX).sum()))


def read_batch(model: torch.nn.Module, batch: Batch, cache: BoustroCache | None, seed: int, index: int):
    """The output of `model`, a backbone or a language model, for a batch with its own noise; `cache` moves on."""
    noise = latent_noise(seed, index, batch, model.config.latent_size).to(model.device)
    inputs = batch.tensors(slice(None), model.device)
    return model(**inputs, past_key_values=cache, use_cache=cache is not None, latent_noise=noise)


def count_characters(targets: np.ndarray) -> int:
    """Targets that begin a character: all but the bytes 0x80–0xBF, which go on with one, and −100."""
    return int(((targets != IGNORE_INDEX) & ~continues_character(targets)).sum())


def _regular_batch(inputs: np.ndarray, targets: np.ndarray, starts: np.ndarray, segment_length: int) -> Batch:
    return Batch(inputs, targets, starts, None, -(-inputs.shape[1] // segment_length), inputs.size)
