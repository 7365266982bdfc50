import numpy as np
import pytest
import torch

from boustro import BoustroTokenizer
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.evaluation.reading import cold_batches, first_rows, split_batches
from boustro.evaluation.reconstruction import Reconstructions, reconstruct, reconstruction_figures
from tests.conftest import small_model

TEXTS = ["abcabcab", "cab", "bca", "cc"]


@pytest.fixture(scope="module")
def tokenizer():
    return BoustroTokenizer.train_from_iterator(TEXTS)


def corpus_of(tokenizer, texts) -> EncodedCorpus:
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ids, bounds = np.concatenate(rows).astype(np.uint16), np.cumsum([0, *map(len, rows)])
    return EncodedCorpus(ids, np.zeros(len(ids), np.uint8), bounds, len(ids), len(ids), 0)


def test_documents_are_written_from_their_latents(tokenizer):
    model = small_model(vocab_size=len(tokenizer), latent_prior="standard")
    with torch.no_grad():  # to write a, b and c as the latent wants it
        model.lm_head.bias[:259] = -1e4
        model.lm_head.bias[259:] = 0
        model.model.planner.backward_decoder.input.weight *= 10
    corpus = corpus_of(tokenizer, TEXTS)
    texts = reconstruct(model, tokenizer, split_batches(model, corpus, None, 20))
    assert texts.original == TEXTS
    for written in (texts.posterior, texts.swapped, texts.prior):
        assert len(written) == 4 and max(map(len, written)) <= 9
    again = reconstruct(model, tokenizer, split_batches(model, corpus, None, 20))
    assert texts == again
    assert texts.posterior != texts.prior


def test_segments_of_a_stream_are_written_after_a_prompt(tokenizer):
    model = small_model(vocab_size=len(tokenizer))
    corpus = corpus_of(tokenizer, ["abcab" + "cabba" + "bbbbb" + "ccccc" + "a"])
    texts = reconstruct(model, tokenizer, cold_batches(model, corpus, 2, 8), prompt_segments=1)
    assert texts.original == ["cabba", "ccccc"]
    assert len(texts.posterior) == len(texts.swapped) == len(texts.prior) == 2
    assert list(cold_batches(model, corpus, 5, 8)) == []


def test_nothing_is_written_without_latents_or_by_a_lone_row(tokenizer):
    corpus = corpus_of(tokenizer, TEXTS)
    for model, rows in ((small_model(vocab_size=len(tokenizer), latent_size=0), 4), (small_model(vocab_size=300), 1)):
        texts = reconstruct(model, tokenizer, first_rows(split_batches(model, corpus, None, 20), rows))
        assert texts == Reconstructions()
        assert set(reconstruction_figures(texts).values()) == {None}


def test_perfect_reconstructions_have_no_errors():
    texts = Reconstructions(["ab" * 10, "c"], ["ab" * 10, "c"], ["ab" * 8 + "zzzz", "c"], ["", ""])
    figures = reconstruction_figures(texts)
    assert figures["posterior_error_rate"] == 0 and figures["posterior_errors_by_position"] == [0, 0]
    assert figures["swapped_errors_by_position"] == [0, 1]
    assert figures["prior_error_rate"] == 1 and figures["reconstructed"] == 2
