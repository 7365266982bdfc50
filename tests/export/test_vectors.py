"""Vectors reach gensim, TensorBoard's projector and the feature-extraction pipeline."""

import io
import json

import numpy as np
import pytest
import torch
from transformers import pipeline

from boustro import BoustroTokenizer
from boustro.export.vectors import sentence_vectors, write_projector, write_word2vec
from tests.conftest import small_model

TEXTS = ["the cat", "a much longer text", "the cat", "汉字", "tab\tand space"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder, model and tokenizer."""
    folder = tmp_path_factory.mktemp("vectors")
    tokenizer = BoustroTokenizer.train_from_iterator(["abcdefghijklmnopqrstuvwxyz 汉字"])
    model = small_model(vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


def test_a_vector_is_the_mean_of_a_texts_posterior_means(saved):
    _, model, tokenizer = saved
    vectors = sentence_vectors(model, TEXTS, tokenizer)
    assert vectors.shape == (5, 4) and vectors.dtype == np.float32
    mean = model.encode(TEXTS[1], tokenizer).mean[0]
    assert len(mean) > 1
    np.testing.assert_allclose(vectors[1], mean.mean(0), atol=1e-5)


def test_gensim_reads_the_word2vec_file(saved, tmp_path):
    _, model, tokenizer = saved
    vectors = sentence_vectors(model, TEXTS, tokenizer)
    with open(tmp_path / "texts.vec", "w", encoding="utf-8") as file:
        write_word2vec(file, TEXTS, vectors)
    gensim = pytest.importorskip("gensim.models")
    found = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / "texts.vec"))
    assert found.index_to_key == ["the_cat", "a_much_longer_text", "the_cat#2", "汉字", "tab_and_space"]
    np.testing.assert_allclose(found["汉字"], vectors[3], rtol=1e-5)
    assert found.most_similar("the_cat")[0][0] == "the_cat#2"


def test_names_are_never_given_twice():
    file = io.StringIO()
    write_word2vec(file, ["a", "a#2", "a", " "], np.zeros((4, 1)))
    names = [line.split(" ")[0] for line in file.getvalue().splitlines()[1:]]
    assert len(set(names)) == 4 and names[-1] == "_"


def test_the_projectors_files_have_a_row_a_text(saved, tmp_path):
    _, model, tokenizer = saved
    vectors = sentence_vectors(model, TEXTS, tokenizer)
    write_projector(tmp_path / "new", TEXTS, vectors)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "new" / "vectors.tsv", delimiter="\t"), vectors, rtol=1e-5)
    labels = (tmp_path / "new" / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert labels == ["the cat", "a much longer text", "the cat", "汉字", "tab and space"]


def test_the_feature_extraction_pipeline_gives_sentence_vectors(saved):
    folder, model, tokenizer = saved
    assert "feature-extraction" in json.loads((folder / "config.json").read_text())["custom_pipelines"]
    pipe = pipeline("feature-extraction", model=str(folder), trust_remote_code=True)
    found = pipe(TEXTS, batch_size=5)
    np.testing.assert_allclose(found, sentence_vectors(model, TEXTS, tokenizer), atol=1e-5)
    assert torch.allclose(pipe(TEXTS[0], return_tensors=True), torch.tensor(found[0]), atol=1e-5)
