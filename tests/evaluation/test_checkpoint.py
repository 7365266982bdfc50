"""Loading a checkpoint: what is no checkpoint as it was saved is refused in a sentence, never used."""

import json
import shutil

import pytest
import torch
from transformers import GPT2Config

from boustro import BoustroTokenizer
from boustro.data_scripts.errors import DataError
from boustro.evaluation.checkpoint import load_checkpoint
from tests.conftest import small_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = BoustroTokenizer.train_from_iterator(["abcdefghijklmnopqrstuvwxyz"])
    small_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def change_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))


def cut(folder, name, size):
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


DAMAGE = {
    "missing config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "cut config": (lambda folder: cut(folder, "config.json", 50), "not a valid JSON file"),
    "wrong field": (lambda folder: change_config(folder, hidden_size="x"), "'hidden_size' expected int, got str"),
    "other model": (lambda folder: GPT2Config().save_pretrained(folder), "holds a model of type 'gpt2'"),
    "other size": (lambda folder: change_config(folder, hidden_size=20), "config.json does not fit the weights"),
    "more layers": (
        lambda folder: change_config(folder, num_context_layers=3),
        "config.json does not fit the weights",
    ),
    "a part less": (lambda folder: change_config(folder, plan_skip=False), "config.json does not fit the weights"),
    "missing weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
    "empty weights": (lambda folder: cut(folder, "model.safetensors", 0), "the weights could not be loaded"),
    "cut weights": (lambda folder: cut(folder, "model.safetensors", 5000), "the weights could not be loaded"),
    "missing tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "cut tokenizer": (lambda folder: cut(folder, "tokenizer.json", 300), "no tokenizer could be loaded"),
    "other tokenizer": (
        lambda folder: BoustroTokenizer.train_from_iterator(map(chr, range(300, 400))).save_pretrained(folder),
        "belong to different vocabularies",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_not_saved_so_is_one_sentence(copy, damage, capfd):
    damaged, sentence = DAMAGE[damage]
    damaged(copy)
    with pytest.raises(DataError) as caught:
        load_checkpoint(str(copy))
    message = str(caught.value)
    assert sentence in message and str(copy) in message and "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_what_was_saved_is_loaded(saved):
    model, tokenizer = load_checkpoint(str(saved))
    assert not model.training and model.dtype == torch.float32 and len(tokenizer) == model.config.vocab_size
    assert load_checkpoint(str(saved), dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_vocabulary_that_was_padded_is_loaded(copy, saved):
    model, tokenizer = load_checkpoint(str(saved))
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    model.save_pretrained(copy)
    model, tokenizer = load_checkpoint(str(copy))
    assert model.config.vocab_size % 64 == 0 and model.config.vocab_size > len(tokenizer)
