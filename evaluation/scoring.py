"""The bound over a whole split, windows that start cold, and the warning that a latent is not used.

Everything is in evaluation mode with one posterior sample a segment, drawn from a seed. All figures are in nats
unless they say bits; "per character" divides by characters and end marks, a character spelt in bytes counted once.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from boustro.cache_boustro import BoustroCache
from boustro.data_scripts.batches import Batch
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.data_scripts.errors import DataError
from boustro.evaluation.latents import latent_use
from boustro.evaluation.reading import count_characters, read_batch, split_batches

ROW_CHARACTERS = 200_000  # a stream is scored as one row, a very long one in parallel rows of at least this length
PARALLEL_ROWS = 16  # rows in which a stream is read where time matters more than a warm state
COLLAPSED_KL = 0.1  # nats per segment below which the latent says nothing
UNHEARD_NATS = 0.05  # nats per segment that swapping latents must lose, or nobody listens to them


def evaluate_split(
    model: torch.nn.Module,
    corpus: EncodedCorpus,
    *,
    input_mode: str,
    max_length: int = 256,
    rows: int | None = None,
    max_characters: int | None = None,
    health_segments: int = 512,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores a split with a `BoustroForCausalLM`, which is left in evaluation mode.

    Args:
        input_mode: `"stream"` reads the split from end to end with its state carried; `"documents"` starts afresh
            with every document (and every piece of `max_length` characters).
        rows: stream: parallel rows, each starting cold and holding a segment at least; the bound stays a bound.
            Default: one row, more only for splits of 400,000 characters and more.
        max_characters: score the beginning only.
        health_segments: measure `latent_use` on about so many segments.

    Returns a dict: `nats_per_character`, `bits_per_character` (−ELBO, KL and end marks included), `bits_per_byte`
    (None if not the whole split was scored), `reconstruction_nats` and `kl_nats` (per character), `kl_per_segment`,
    `segments`, `characters`, `rows` (None for documents); and the figures of `latent_use`.
    """
    model.eval()
    whole = max_characters is None or len(corpus.ids) <= max_characters
    if not whole:
        corpus = beginning(corpus, max_characters, whole_documents=input_mode == "documents")
    # rows shorter than a segment would measure the latents of fragments
    whole_segments = max(len(corpus.ids) // model.config.segment_length, 1)
    rows = min(rows or max(len(corpus.ids) // ROW_CHARACTERS, 1), whole_segments)
    rows = None if input_mode == "documents" else rows
    batches = split_batches(model, corpus, rows, max_length)
    figures = _bound(model, batches, rows, corpus.bytes if whole else None, seed)
    batches = split_batches(model, corpus, rows and min(PARALLEL_ROWS, whole_segments), max_length)
    return figures | latent_use(model, batches, rows is not None, health_segments, seed)


@torch.no_grad()
def score_cold_windows(
    model: torch.nn.Module, corpus: EncodedCorpus, window: int = 256, windows: int = 1000, seed: int = 0
) -> float:
    """The bound over random windows that each start cold, as nanoGPT's `estimate_loss` takes it: nats per character.

    A window is `window` characters, each predicting the next, drawn anywhere in the corpus; no <bos> is put in front.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    if len(corpus.ids) <= window:
        raise DataError(f"the text has {len(corpus.ids)} characters, expected more than one window of {window}.")
    nats, targets = 0.0, 0
    for starts in np.array_split(rng.integers(len(corpus.ids) - window, size=windows), -(-windows // 32)):
        index = starts[:, None] + np.arange(window)
        pieces = (corpus.ids[index], corpus.ids[index + 1], corpus.word_starts[index + 1])
        inputs = [torch.from_numpy(piece.astype(np.int64)).to(model.device) for piece in pieces]
        segments = -(-window // model.config.segment_length)
        noise = rng.standard_normal((len(starts), segments, model.config.latent_size), dtype=np.float32)
        noise = torch.from_numpy(noise).to(model.device)
        output = model(inputs[0], target_ids=inputs[1], word_starts=inputs[2], latent_noise=noise)
        nats += float(output.loss) * index.size
        targets += count_characters(corpus.ids[index + 1])
    return nats / targets


def collapse_warning(figures: dict[str, Any]) -> str | None:
    """A sentence that says the latent is not used, and which option mends it; None if it is, or there is none."""
    kl, swap = figures["kl_per_segment"], figures["swap_loss_per_segment"]
    if kl is not None and kl < COLLAPSED_KL:
        return (
            f"the latent has collapsed (KL {kl:.3f} nats per segment): the model does without it, as a plain LSTM. "
            "Train with a longer --latent-warmup-fraction and a higher --kl-floor than this run had."
        )
    if swap is not None and swap < UNHEARD_NATS:
        return (
            f"the latent is not listened to (KL {kl:.2f} nats per segment, but latents of other segments cost only "
            f"{swap:.3f} nats). Train longer, or with a longer --latent-warmup-fraction or a larger --backward-weight "
            "than this run had."
        )
    return None


def beginning(corpus: EncodedCorpus, count: int, whole_documents: bool) -> EncodedCorpus:
    """The first `count` ids of a split, or the whole documents among them (at least one); `bytes` is unknown, 0."""
    offsets = corpus.offsets[corpus.offsets <= count]
    if whole_documents and len(offsets) == 1:
        offsets = corpus.offsets[:2]
    elif not whole_documents:
        offsets = np.append(offsets[offsets < count], count)
    end = int(offsets[-1])
    ids, word_starts = corpus.ids[:end], corpus.word_starts[:end]
    return replace(corpus, ids=ids, word_starts=word_starts, offsets=offsets, characters=end, bytes=0)


@torch.no_grad()
def _bound(
    model: torch.nn.Module, batches: Iterator[Batch], rows: int | None, text_bytes: int | None, seed: int
) -> dict[str, Any]:
    cache = None if rows is None else BoustroCache()
    reconstruction, kl, segments, characters = 0.0, 0.0, 0, 0
    for index, batch in enumerate(batches):
        output = read_batch(model, batch, cache, seed, index)
        reconstruction += float(output.reconstruction.double().sum())
        characters += count_characters(batch.target_ids)
        if output.kl is not None:
            kl += float(output.kl.double().sum())
            segments += int(output.segment_count.sum())
    bits = (reconstruction + kl) / math.log(2)
    return {
        "nats_per_character": (reconstruction + kl) / characters,
        "bits_per_character": bits / characters,
        "bits_per_byte": bits / text_bytes if text_bytes else None,
        "reconstruction_nats": reconstruction / characters,
        "kl_nats": kl / characters,
        "kl_per_segment": kl / segments if segments else None,
        "segments": segments,
        "characters": characters,
        "rows": rows,
    }
