"""The custom pipelines, found by their names in config.json."""

import json

import pytest
from transformers import AutoModelForCausalLM, pipeline

from boustro import BoustroTokenizer
from tests.conftest import small_model

TEXT = "the quick brown fox, 你好世界"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint")
    tokenizer = BoustroTokenizer.train_from_iterator([TEXT])
    small_model(vocab_size=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_reconstruct_does_what_the_model_does(folder):
    rewrite = pipeline("reconstruct", model=str(folder), trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = model.reconstruct([TEXT, "the fox"], max_new_tokens=9)
    assert rewrite(TEXT, max_new_tokens=9) == {"text": expected[0]}
    assert rewrite([TEXT, "the fox"], max_new_tokens=9) == [
        {"text": model.reconstruct(text, max_new_tokens=9)[0]} for text in (TEXT, "the fox")
    ]


def test_interpolate_takes_a_pair(folder):
    between = pipeline("interpolate", model=str(folder), trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    texts = model.interpolate(TEXT, "the fox", steps=3, max_new_tokens=9)
    assert between((TEXT, "the fox"), steps=3, max_new_tokens=9) == {"texts": texts}
    assert between([TEXT, "the fox"], steps=3, max_new_tokens=9) == {"texts": texts}
    for wrong in ("the fox", ["the fox"], [["a", "b", "c"]], [["a", 3]]):
        with pytest.raises(ValueError, match=r"interpolate got .*, expected a pair of texts"):
            between(wrong)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_batch_gives_what_its_inputs_give_alone(folder, batch_size):
    rewrite = pipeline("reconstruct", model=str(folder), trust_remote_code=True)
    between = pipeline("interpolate", model=str(folder), trust_remote_code=True)
    texts, options = [TEXT, "the fox", "a brown one"], {"max_new_tokens": 9}
    assert rewrite(texts, batch_size=batch_size, **options) == [rewrite(text, **options) for text in texts]
    pairs, options = [[TEXT, "the fox"], ["a", "b"], ("quick", "brown")], {"steps": 3, "max_new_tokens": 9}
    expected = [between(tuple(pair), **options) for pair in pairs]
    assert between(pairs, batch_size=batch_size, **options) == expected
    vectors = pipeline("feature-extraction", model=str(folder), trust_remote_code=True)
    for found, text in zip(vectors(texts, batch_size=batch_size), texts, strict=True):
        assert found == pytest.approx(vectors(text), abs=1e-6)


def test_reconstruct_refuses_what_is_no_text(folder):
    rewrite = pipeline("reconstruct", model=str(folder), trust_remote_code=True)
    with pytest.raises(ValueError, match=r"reconstruct got \['a', 'b'\], expected a text"):
        rewrite([["a", "b"]])


def test_a_loaded_model_can_be_saved_again(folder, tmp_path):
    rewrite = pipeline("reconstruct", model=str(folder), trust_remote_code=True)
    rewrite.model.save_pretrained(tmp_path)
    assert (tmp_path / "pipelines_boustro.py").is_file()
    saved, first = (json.loads((path / "config.json").read_text()) for path in (tmp_path, folder))
    assert saved["custom_pipelines"] == first["custom_pipelines"] and len(first["custom_pipelines"]) == 3


def test_a_plain_model_offers_no_latent_pipelines(tmp_path):
    small_model(latent_size=0).save_pretrained(tmp_path)
    assert not json.loads((tmp_path / "config.json").read_text()).get("custom_pipelines")
