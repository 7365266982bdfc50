from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from boustro.data_scripts.batches import (
    IGNORE_INDEX,
    DocumentBatches,
    StreamBatches,
    Streams,
    cut_documents,
    latent_noise,
)
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.data_scripts.errors import DataError

BOS, EOS = 1, 2
IDS = {"bos_token_id": BOS, "eos_token_id": EOS}


def corpus_of(lengths: list[int]) -> EncodedCorpus:
    """Every id occurs once, so that targets can be told apart."""
    total = sum(lengths)
    return EncodedCorpus(
        ids=np.arange(300, 300 + total, dtype=np.uint16),
        word_starts=(np.arange(total) % 3 == 0).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        characters=total,
        bytes=total,
        unknown_characters=0,
    )


def streams(length=1000, batch_size=4, seed=0) -> StreamBatches:
    return StreamBatches(corpus_of([length]), batch_size, 32, 16, seed, **IDS)


@pytest.mark.parametrize("length", [1000, 1023, 129, 64])
def test_every_character_is_a_stream_target_once_an_epoch(length):
    batches = streams(length)
    labels = [batches.batch(3, index).target_ids for index in range(batches.steps)]
    counts = Counter(np.concatenate([part.ravel() for part in labels]).tolist())
    counts.pop(IGNORE_INDEX, None)
    assert counts == Counter([*range(300, 300 + length), EOS])


def test_a_stream_begins_with_bos_and_goes_on_where_the_window_before_ended():
    batches = streams()
    windows = [batches.batch(0, index) for index in range(batches.steps)]
    assert (windows[0].input_ids[:, 0] == BOS).all()
    for window in windows:
        assert (window.input_ids[:, 1:] == window.target_ids[:, :-1]).all()
    for before, after in pairwise(windows):
        assert (after.input_ids[:, 0] == before.target_ids[:, -1]).all()


def test_word_starts_belong_to_the_targets():
    batch = streams().batch(0, 1)
    known = batch.target_ids > EOS
    assert (batch.word_starts[known] == ((batch.target_ids[known] - 300) % 3 == 0)).all()


def test_epochs_start_at_other_places_and_batches_are_functions_of_seed_epoch_and_step():
    first = [streams().batch(epoch, 0).target_ids[0, 0] for epoch in range(8)]
    assert len(set(first)) > 4
    assert first[2] == streams().batch(2, 0).target_ids[0, 0]
    assert first[2] != streams(seed=1).batch(2, 0).target_ids[0, 0]


def test_some_windows_start_segments_at_a_random_phase():
    batches = streams(20_000)
    shifted = [b for b in (batches.batch(0, i) for i in range(batches.steps)) if b.segment_starts is not None]
    assert 0 < len(shifted) < batches.steps / 3
    for batch in shifted:
        starts = batch.segment_starts
        assert starts[:, 0].all() and batch.segments == starts.sum(1).max()
        for row in starts:
            gaps = np.diff(np.flatnonzero(row))
            assert gaps[0] < 16 and (gaps[1:] == 16).all()


def test_some_rows_begin_a_window_cold():
    batches = streams(20_000)
    cold = np.stack([batches.batch(0, index).cold for index in range(batches.steps)])
    assert 0.03 < cold.mean() < 0.1 and cold.any(0).all()
    assert (cold == [streams(20_000).batch(0, index).cold for index in range(batches.steps)]).all()


def test_a_short_last_window_weighs_less():
    batches = streams(4 * 40 - 1)
    assert [batches.batch(0, i).input_ids.shape for i in range(batches.steps)] == [(4, 32), (4, 8)]
    assert batches.batch(0, 1).normaliser == batches.batch(0, 0).normaliser == 4 * 32


def test_a_text_shorter_than_a_window_is_an_error_and_fewer_streams_a_warning(caplog):
    with pytest.raises(DataError, match=r"21 characters.*window of 32.*--window-length"):
        streams(20)
    assert streams(70).rows == 2
    assert "--batch-size 4" in caplog.text


def test_parts_of_a_batch_are_its_rows():
    batch = streams(batch_size=5).batch(0, 0)
    parts = [batch.tensors(batch.part(i, 3), torch.device("cpu")) for i in range(3)]
    assert torch.equal(torch.cat([part["input_ids"] for part in parts]), torch.from_numpy(batch.input_ids))
    noise = latent_noise(0, 7, batch, 4)
    assert noise.shape == (5, batch.segments, 4)
    assert torch.equal(noise, latent_noise(0, 7, batch, 4))
    assert not torch.equal(noise, latent_noise(0, 8, batch, 4))


def documents(lengths, batch_size=4, max_length=10, **options) -> DocumentBatches:
    return DocumentBatches(corpus_of(lengths), batch_size, max_length, 16, 0, **IDS, **options)


def test_every_character_and_end_mark_is_a_document_target_once_an_epoch():
    lengths = [3, 25, 1, 9, 10, 7, 4, 30, 2]
    batches = documents(lengths)
    all_batches = [batches.batch(2, index) for index in range(batches.steps)]
    counts = Counter(np.concatenate([b.target_ids.ravel() for b in all_batches]).tolist())
    counts.pop(IGNORE_INDEX)
    assert counts.pop(EOS) == len(lengths)
    assert counts == Counter(range(300, 300 + sum(lengths)))
    for batch in all_batches:
        assert (batch.input_ids[:, 0] == BOS).all()
        assert batch.target_ids.shape[1] <= 10
        assert batch.normaliser == (batch.target_ids != IGNORE_INDEX).sum()
        known = batch.target_ids[:, :-1] > EOS
        assert (batch.input_ids[:, 1:][known] == batch.target_ids[:, :-1][known]).all()


def test_long_documents_are_cut_and_only_the_last_piece_ends():
    assert cut_documents(np.array([0, 3, 3, 12]), 5).tolist() == [[0, 4], [4, 5], [5, 10], [10, 15]]
    batch = documents([12], shuffle=False).batch(0, 0)
    assert (batch.target_ids == EOS).any(1).tolist() == [False, True]


def test_documents_of_like_length_share_a_batch_in_a_new_order_each_epoch():
    lengths = np.random.default_rng(0).integers(1, 60, size=400).tolist()
    batches = documents(lengths, batch_size=16, max_length=64)
    spread = [np.ptp((batches.batch(0, i).target_ids != IGNORE_INDEX).sum(1)) for i in range(batches.steps)]
    assert max(spread) < 10
    assert not np.array_equal(batches.batch(0, 0).target_ids, batches.batch(1, 0).target_ids)
    sizes = {len(batches.batch(0, i).input_ids) for i in range(batches.steps)}
    assert sizes <= {15, 16}


def test_streams_cover_the_sequence_in_order():
    sequence = np.arange(10, 20)
    inputs, labels, _ = Streams(sequence, np.zeros(10, np.uint8), 1, BOS).window(0, 100)
    assert labels[0].tolist() == list(range(10, 20))
    assert inputs[0].tolist() == [BOS, *range(10, 19)]
