"""The bound over a whole split, and whether the latent is really used.

Everything is in evaluation mode with one posterior sample a segment, drawn from a seed. All figures are in nats
unless they say bits; "per character" divides by characters and end marks, a character spelt in bytes counted once.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from boustro.cache_boustro import BoustroCache
from boustro.data_scripts.batches import (
    IGNORE_INDEX,
    Batch,
    DocumentBatches,
    Streams,
    latent_noise,
)
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.data_scripts.errors import DataError
from boustro.tokenization_boustro import SPECIAL_TOKENS

ROW_CHARACTERS = 200_000  # a stream is scored as one row, a very long one in parallel rows of at least this length
PARALLEL_ROWS = 16  # rows in which a stream is read where time matters more than a warm state
WINDOW_POSITIONS = 8_192  # positions of all rows in one call of the model
COLLAPSED_KL = 0.1  # nats per segment below which the latent says nothing
UNHEARD_NATS = 0.05  # nats per segment that swapping latents must lose, or nobody listens to them
STREAM_COLLAPSE = (
    "(On streams no setting measured so far keeps it in use, on short documents they do: docs/decisions.md.)"
)
ACTIVE_VARIANCE = 0.01  # a unit is active if its posterior mean varies more (Burda et al. 2016, section 5.2)


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
    batches = _split_batches(model, corpus, rows, max_length)
    figures = _bound(model, batches, rows, corpus.bytes if whole else None, seed)
    batches = _split_batches(model, corpus, rows and min(PARALLEL_ROWS, whole_segments), max_length)
    return figures | latent_use(model, batches, rows is not None, health_segments, seed)


def latent_use(
    model: torch.nn.Module, batches: Iterator[Batch], carries_state: bool, segments: int, seed: int
) -> dict[str, Any]:
    """Whether the latent says something and is heard, on the first `segments` segments of `batches`.

    Returns `swap_loss_per_segment`, the nats of reconstruction that are lost when segments exchange their latents,
    and `active_units` of `latent_units`; all None without latents or with a single segment.
    """
    cache = BoustroCache() if carries_state else None
    loss, swapped, means = 0.0, 0, []
    if model.config.latent_size > 0:
        for index, batch in enumerate(batches):
            if swapped >= segments:
                break
            batch_loss, batch_means = _swap(model, batch, cache, index, seed)
            loss, swapped = loss + batch_loss, swapped + len(batch_means)
            means.append(batch_means)
    if swapped < 2:
        return dict.fromkeys(("swap_loss_per_segment", "active_units", "latent_units"))
    variance = torch.cat(means).var(0, correction=0)
    return {
        "swap_loss_per_segment": loss / swapped,
        "active_units": int((variance > ACTIVE_VARIANCE).sum()),
        "latent_units": len(variance),
    }


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
        targets += index.size
    return nats / targets


def collapse_warning(figures: dict[str, Any]) -> str | None:
    """A sentence that says the latent is not used, and which option mends it; None if it is, or there is none."""
    kl, swap = figures["kl_per_segment"], figures["swap_loss_per_segment"]
    if kl is not None and kl < COLLAPSED_KL:
        return (
            f"the latent has collapsed (KL {kl:.3f} nats per segment): the model does without it, as a plain LSTM. "
            f"Try a larger --kl-floor, --segment-length or --backward-weight. {STREAM_COLLAPSE}"
        )
    if swap is not None and swap < UNHEARD_NATS:
        return (
            f"the latent is not listened to (KL {kl:.2f} nats per segment, but latents of other segments cost only "
            f"{swap:.3f} nats). Try a longer training, a larger --segment-length or --backward-weight, or save the KL "
            f"with a smaller --kl-floor. {STREAM_COLLAPSE}"
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


def count_characters(targets: np.ndarray) -> int:
    """Targets that begin a character: all but the bytes 0x80–0xBF, which go on with one, and −100."""
    first_byte = len(SPECIAL_TOKENS)
    continues = (targets >= first_byte + 0x80) & (targets < first_byte + 0xC0)
    return int(((targets != IGNORE_INDEX) & ~continues).sum())


def _split_batches(
    model: torch.nn.Module, corpus: EncodedCorpus, rows: int | None, max_length: int
) -> Iterator[Batch]:
    """A split as `rows` streams, or as documents if that is None; everything once, in order."""
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
        inputs, labels, starts = streams.window(start, start + window)
        yield Batch(inputs, labels, starts, None, -(-inputs.shape[1] // config.segment_length), inputs.size)


@torch.no_grad()
def _bound(
    model: torch.nn.Module, batches: Iterator[Batch], rows: int | None, text_bytes: int | None, seed: int
) -> dict[str, Any]:
    cache = None if rows is None else BoustroCache()
    reconstruction, kl, segments, characters = 0.0, 0.0, 0, 0
    for index, batch in enumerate(batches):
        output = _forward(model, batch, cache, seed, index)
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


@torch.no_grad()
def _swap(
    model: torch.nn.Module, batch: Batch, cache: BoustroCache | None, index: int, seed: int
) -> tuple[float, torch.Tensor]:
    """Nats lost when the batch's N segments exchange latents, and their posterior means (N, Z). Moves `cache` on."""
    before = copy.copy(cache)
    inputs = batch.tensors(slice(None), model.device)
    output = _forward(model, batch, cache, seed, index)
    places = torch.arange(output.latents.shape[1], device=model.device)
    present = places < output.segment_count[:, None]  # (B, K)
    own = output.latents[present]  # (N, Z)
    latents = output.latents.clone()
    latents[present] = own.roll(len(own) // 2, 0)
    swapped = model(**inputs, past_key_values=before, use_cache=False, latents=latents)
    loss = float((swapped.reconstruction - output.reconstruction).double().sum())
    return loss, output.posterior_mean[present].float().cpu()


def _forward(model: torch.nn.Module, batch: Batch, cache: BoustroCache | None, seed: int, index: int):
    """The model's output for a batch, with the noise that belongs to it; `cache` moves on."""
    noise = latent_noise(seed, index, batch, model.config.latent_size).to(model.device)
    inputs = batch.tensors(slice(None), model.device)
    return model(**inputs, past_key_values=cache, use_cache=cache is not None, latent_noise=noise)
