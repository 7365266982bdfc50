"""The batches of a run as pure functions of (seed, epoch, step): nothing to save, so that resuming is exact.

Every batch holds the rows of a whole optimiser step; `Batch.part` cuts out those of one process or accumulation piece.
A stream or document begins with <bos>; after that the input at a position is the target of the one before.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from boustro.planning_boustro import IGNORE_INDEX
from boustro.tokenization_boustro import UNKNOWN

from .encoding import EncodedCorpus
from .errors import DataError

JITTER_PROBABILITY = 0.1  # share of batches whose first segment has a random length
COLD_PROBABILITY = 1 / 16  # share of stream rows that begin a window without what they have read before
POOL_BATCHES = 50  # documents are sorted by length within pools of so many batches

logger = logging.getLogger(__name__)


@dataclass
class Batch:
    """Rows of one step. B rows, T positions.

    Attributes:
        input_ids, target_ids, word_starts: (B, T) int64; targets are the ids that follow, −100 for none, and word
            starts are codes of the targets.
        segment_starts: (B, T) bool, or None for a segment every `segment_length` positions.
        segments: K, the most segments of a row.
        normaliser: target characters that the step's loss is averaged over.
        segment_length: S of this batch; None for the model's.
        cold: (B,) bool, rows that begin from an empty state in the middle of their text; None for none.
    """

    input_ids: np.ndarray
    target_ids: np.ndarray
    word_starts: np.ndarray
    segment_starts: np.ndarray | None
    segments: int
    normaliser: int
    segment_length: int | None = None
    cold: np.ndarray | None = None

    def part(self, index: int, parts: int) -> slice:
        """The rows of piece `index` of `parts`: contiguous, and the same ones for every batch of as many rows."""
        rows = len(self.input_ids)
        return slice(rows * index // parts, rows * (index + 1) // parts)

    def tensors(self, rows: slice, device: torch.device) -> dict[str, torch.Tensor]:
        """The arguments of the model's forward for some of the rows."""
        names = ("input_ids", "target_ids", "word_starts", "segment_starts")
        arrays = {name: getattr(self, name) for name in names}
        tensors = {name: torch.from_numpy(array[rows]) for name, array in arrays.items() if array is not None}
        return {name: tensor.to(device) for name, tensor in tensors.items()}


class Streams:
    """A text read by parallel rows, each going through its own stretch; together they predict everything once.

    Row r predicts `sequence[r·M/R] … sequence[(r+1)·M/R − 1]`, counted cyclically from an offset. Rows differ in
    length by one at most; a row without a target for the last position has −100 there.
    """

    def __init__(self, sequence: np.ndarray, word_starts: np.ndarray, rows: int, bos_token_id: int):
        self.sequence, self.word_starts, self.rows = sequence, word_starts, rows
        self.bos_token_id = bos_token_id
        self.bounds = np.arange(rows + 1) * len(sequence) // rows
        self.length = -(-len(sequence) // rows)  # positions of the longest row

    def window(self, start: int, stop: int, offset: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, targets and word starts (R, T) of the positions from `start` to `stop` of every row."""
        places = np.arange(start, min(stop, self.length))
        index = (offset + self.bounds[:-1, None] + places) % len(self.sequence)
        inputs = self.sequence[index - 1].astype(np.int64)
        if start == 0:
            inputs[:, 0] = self.bos_token_id
        outside = places >= np.diff(self.bounds)[:, None]
        targets = np.where(outside, IGNORE_INDEX, self.sequence[index].astype(np.int64))
        return inputs, targets, self.word_starts[index].astype(np.int64)


def join_documents(corpus: EncodedCorpus, eos_token_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all documents in one sequence, <eos> after each, and the word-start codes beside them."""
    ends = corpus.offsets[1:]
    return np.insert(corpus.ids, ends, eos_token_id), np.insert(corpus.word_starts, ends, UNKNOWN)


class StreamBatches:
    """Windows of parallel contiguous streams, for truncated back-propagation through time.

    The split is one text (data preparation has put separators between its rows), with <eos> where its end meets its
    beginning. Each epoch starts at a random place of the text with fresh states, so that windows and segments fall
    differently; every target occurs once in an epoch. The last window of an epoch may be shorter: its loss weighs
    less. Now and then a row begins a window cold, for a prompt is text out of nowhere.

    Args:
        corpus: the training split.
        batch_size: parallel streams; fewer are used, with a warning, if the text is too short for them.
        window_length: positions of a window, a multiple of `segment_length`.
        seed: of the offsets.

    Raises `DataError` for a text shorter than one window.
    """

    carries_state = True

    def __init__(
        self,
        corpus: EncodedCorpus,
        batch_size: int,
        window_length: int,
        segment_length: int,
        seed: int,
        bos_token_id: int,
        eos_token_id: int,
    ):
        end = np.array([eos_token_id], corpus.ids.dtype)
        sequence, word_starts = np.append(corpus.ids, end), np.append(corpus.word_starts, np.uint8(UNKNOWN))
        if len(sequence) < window_length:
            raise DataError(
                f"the training text has {len(sequence)} characters, fewer than one window of {window_length}: set a "
                "smaller --window-length (and --segment-length), or give more text."
            )
        rows = min(batch_size, len(sequence) // window_length)
        if rows < batch_size:
            logger.warning(
                "The training text (%d characters) has room for %d streams of %d characters, not for --batch-size %d: "
                "training with %d.", len(sequence), rows, window_length, batch_size, rows
            )  # fmt: skip
        self.streams = Streams(sequence, word_starts, rows, bos_token_id)
        self.window_length, self.segment_length, self.seed = window_length, segment_length, seed
        self.steps = -(-self.streams.length // window_length)  # optimiser steps of an epoch
        self.rows = rows

    def batch(self, epoch: int, index: int, segment_length: int | None = None) -> Batch:
        """Window `index` of `epoch`, for all streams, in segments of `segment_length` (default: the model's)."""
        length = segment_length or self.segment_length
        offset = int(np.random.default_rng([self.seed, epoch]).integers(len(self.streams.sequence)))
        start = index * self.window_length
        inputs, targets, word_starts = self.streams.window(start, start + self.window_length, offset)
        rng = np.random.default_rng([self.seed, epoch, index])
        first = rng.integers(1, max(length, 2), size=self.rows)
        segment_starts, segments = jittered_starts(rng, first, inputs.shape[1], length)
        cold, count = rng.random(self.rows) < COLD_PROBABILITY, self.rows * self.window_length
        return Batch(inputs, targets, word_starts, segment_starts, segments, count, length, cold)


class DocumentBatches:
    """One row a document, <bos> … <eos>, padded on the right, documents of like length together.

    A document of more than `max_length` characters (its end mark counted) is cut into pieces, each a row that begins
    with <bos>; only the last piece predicts <eos>. Every character is a target once in an epoch.

    Args:
        corpus: the split.
        batch_size: rows of a step; the batches of an epoch differ by one row at most.
        shuffle: for training. False keeps the order of the documents and their segments.
    """

    carries_state = False

    def __init__(
        self,
        corpus: EncodedCorpus,
        batch_size: int,
        max_length: int,
        segment_length: int,
        seed: int,
        bos_token_id: int,
        eos_token_id: int,
        shuffle: bool = True,
    ):
        self.sequence, self.word_starts = join_documents(corpus, eos_token_id)
        self.pieces = cut_documents(corpus.offsets, max_length)
        if not len(self.pieces):
            raise DataError("there is not a single document to train on.")
        self.segment_length, self.seed, self.shuffle = segment_length, seed, shuffle
        self.bos_token_id, self.batch_size = bos_token_id, batch_size
        self.steps = -(-len(self.pieces) // batch_size)  # optimiser steps of an epoch
        self.rows = len(self.pieces) // self.steps  # the fewest rows of a batch
        self._epoch, self._order = -1, []

    def batch(self, epoch: int, index: int, segment_length: int | None = None) -> Batch:
        """Batch `index` of `epoch`, in segments of `segment_length` (default: the model's)."""
        length = segment_length or self.segment_length
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._batches_of(epoch)
        starts, stops = self.pieces[self._order[index]].T
        lengths = stops - starts
        places = np.arange(lengths.max())
        real = places < lengths[:, None]
        where = np.where(real, starts[:, None] + places, 0)
        targets = np.where(real, self.sequence[where].astype(np.int64), IGNORE_INDEX)
        inputs = np.where(real, self.sequence[where - 1].astype(np.int64), 0)
        inputs[:, 0] = self.bos_token_id
        word_starts = np.where(real, self.word_starts[where].astype(np.int64), UNKNOWN)
        segment_starts, segments = None, -(-len(places) // length)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, epoch, index])
            first = rng.integers(1, np.minimum(lengths, length) + 1)
            segment_starts, segments = jittered_starts(rng, first, len(places), length)
        return Batch(inputs, targets, word_starts, segment_starts, segments, int(lengths.sum()), length)

    def _batches_of(self, epoch: int) -> list[np.ndarray]:
        """The piece numbers of each batch: shuffled, sorted by length within pools, batches shuffled."""
        count = len(self.pieces)
        if not self.shuffle:
            return np.array_split(np.arange(count), self.steps)
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(count)
        lengths = self.pieces[:, 1] - self.pieces[:, 0]
        pool = np.arange(count) // (POOL_BATCHES * self.batch_size)
        order = order[np.lexsort((lengths[order], pool))]
        batches = np.array_split(order, self.steps)
        return [batches[i] for i in rng.permutation(self.steps)]


def jittered_starts(
    rng: np.random.Generator, first: np.ndarray, times: int, segment_length: int
) -> tuple[np.ndarray | None, int]:
    """
    Now and then, starts (B, T) after a first segment of `first` (B,) characters: a prompt ends anywhere, so segments
    of every length must be known. Otherwise None, for a segment every `segment_length`. And K, the most of a row.
    """
    if rng.random() >= JITTER_PROBABILITY:
        return None, -(-times // segment_length)
    places = np.arange(times) - first[:, None]
    starts = (places == -first[:, None]) | ((places >= 0) & (places % segment_length == 0))
    return starts, int(starts.sum(1).max())


def cut_documents(offsets: np.ndarray, max_length: int) -> np.ndarray:
    """(P, 2) bounds, in the joined sequence with its end marks, of pieces of at most `max_length` targets."""
    ends = offsets[1:] + np.arange(1, len(offsets))
    starts = offsets[:-1] + np.arange(len(offsets) - 1)
    counts = -(-(ends - starts) // max_length)
    document = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = starts[document] + place * max_length
    return np.stack([first, np.minimum(first + max_length, ends[document])], axis=1)


def latent_noise(seed: int, step: int, batch: Batch, latent_size: int) -> torch.Tensor:
    """(B, K, Z) standard normal draws for a step: the same for a row however the batch is divided up."""
    rng = np.random.default_rng([seed, step, 1])
    shape = (len(batch.input_ids), batch.segments, latent_size)
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
