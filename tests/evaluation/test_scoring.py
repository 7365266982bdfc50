import math

import numpy as np
import pytest
import torch

from boustro.data_scripts.encoding import EncodedCorpus
from boustro.evaluation import reading
from boustro.evaluation.reading import count_characters
from boustro.evaluation.scoring import beginning, collapse_warning, evaluate_split
from tests.conftest import random_ids, small_model


def corpus_of(ids: np.ndarray, lengths: list[int] | None = None) -> EncodedCorpus:
    bounds = np.cumsum([0, *(lengths or [len(ids)])])
    return EncodedCorpus(ids.astype(np.uint16), np.zeros(len(ids), np.uint8), bounds, len(ids), 2 * len(ids), 0)


@pytest.fixture
def ids():
    # ids of characters, for a vocabulary whose bytes end at 258
    return random_ids(1, 203, vocab_size=40)[0].numpy() + 259


def model_of(**changes):
    return small_model(vocab_size=300, **changes)


def test_a_stream_scores_as_one_call_on_the_whole_text(ids, monkeypatch):
    monkeypatch.setattr(reading, "WINDOW_POSITIONS", 30)
    model = model_of(latent_size=0)
    figures = evaluate_split(model, corpus_of(ids), input_mode="stream")
    inputs = torch.from_numpy(np.concatenate([[1], ids[:-1]]))[None]
    with torch.no_grad():
        expected = model(inputs, target_ids=torch.from_numpy(ids)[None]).loss
    assert figures["nats_per_character"] == pytest.approx(float(expected), rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(float(expected) / math.log(2) / 2, rel=1e-5)
    assert figures["characters"] == len(ids) and figures["rows"] == 1
    assert figures["kl_per_segment"] is None and figures["swap_loss_per_segment"] is None


@pytest.mark.parametrize("mode", ["stream", "documents"])
def test_the_bound_is_reconstruction_plus_kl(ids, mode):
    model = model_of()
    figures = evaluate_split(model, corpus_of(ids, [50, 100, 53]), input_mode=mode, max_length=20, rows=None)
    assert figures["nats_per_character"] == pytest.approx(figures["reconstruction_nats"] + figures["kl_nats"])
    assert figures["kl_per_segment"] * figures["segments"] == pytest.approx(figures["kl_nats"] * figures["characters"])
    assert figures["characters"] == len(ids) + (3 if mode == "documents" else 0)
    assert 0 <= figures["active_units"] <= figures["latent_units"] == 4
    assert figures == evaluate_split(model, corpus_of(ids, [50, 100, 53]), input_mode=mode, max_length=20)


def test_documents_score_as_each_of_them_alone(ids):
    model = model_of(latent_size=0)
    lengths = [50, 3, 100, 50]
    figures = evaluate_split(model, corpus_of(ids, lengths), input_mode="documents", max_length=200)
    nats = 0.0
    for document in np.split(ids, np.cumsum(lengths)[:-1]):
        row = torch.from_numpy(np.concatenate([[1], document, [2]]))[None]
        with torch.no_grad():
            nats += float(model(row, labels=row).reconstruction)
    assert figures["nats_per_character"] == pytest.approx(nats / (len(ids) + 4), rel=1e-5)


def test_swapping_latents_costs_what_the_generator_hears(ids):
    hearing, deaf = model_of(), model_of()
    with torch.no_grad():
        for parameter in deaf.model.planner.backward_decoder.parameters():
            parameter.zero_()
    heard, unheard = (evaluate_split(model, corpus_of(ids), input_mode="stream") for model in (hearing, deaf))
    assert unheard["swap_loss_per_segment"] == pytest.approx(0, abs=1e-4)
    assert abs(heard["swap_loss_per_segment"]) > 0.01


def test_only_the_beginning_is_scored_on_request(ids):
    corpus = corpus_of(ids, [50, 100, 53])
    assert beginning(corpus, 120, whole_documents=False).offsets.tolist() == [0, 50, 120]
    assert beginning(corpus, 120, whole_documents=True).offsets.tolist() == [0, 50]
    assert beginning(corpus, 150, whole_documents=True).offsets.tolist() == [0, 50, 150]
    assert beginning(corpus, 20, whole_documents=True).offsets.tolist() == [0, 50]
    figures = evaluate_split(model_of(), corpus, input_mode="stream", rows=4, max_characters=120)
    assert figures["characters"] == 120 and figures["bits_per_byte"] is None


def test_a_character_spelt_in_bytes_counts_once():
    spelt = [3 + byte for byte in "aé€😀".encode()]
    assert count_characters(np.array([*spelt, 2, 300, -100])) == 4 + 2


def test_collapse_is_named_with_its_mend():
    assert "--kl-floor than this run had" in collapse_warning({"kl_per_segment": 0.01, "swap_loss_per_segment": 0.0})
    assert "not listened to" in collapse_warning({"kl_per_segment": 4.0, "swap_loss_per_segment": 0.0})
    assert collapse_warning({"kl_per_segment": 4.0, "swap_loss_per_segment": 3.0}) is None
    assert collapse_warning({"kl_per_segment": None, "swap_loss_per_segment": None}) is None
