import random
from pathlib import Path

import evaluate
import pytest

import boustro.evaluation
from boustro.evaluation import verbatim_overlap
from boustro.evaluation.verbatim_overlap import VerbatimOverlap


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return VerbatimOverlap(cache_dir=str(tmp_path))
    path = Path(boustro.evaluation.__file__).parent / "verbatim_overlap.py"
    return evaluate.load(str(path), cache_dir=str(tmp_path))


def random_text(rng, alphabet, least, most):
    return "".join(rng.choices(alphabet, k=rng.randint(least, most)))


def longest_copy(text, training):
    """The longest substring of `text` in one of the training texts, the first of several, by trying them all."""
    for length in range(len(text), 0, -1):
        for start in range(len(text) - length + 1):
            if any(text[start : start + length] in other for other in training):
                return text[start : start + length]
    return ""


def test_hand_computed_lengths(metric):
    result = metric.compute(predictions=["say hello", "xyz", "您好，世"], training_texts=["hello world", "你好，世界"])
    assert result == {
        "mean_copied_characters": pytest.approx((5 + 0 + 3) / 3),
        "max_copied_characters": 5,
        "share_with_50_copied": 0,
        "longest_copy": "hello",
    }


def test_a_planted_copy_is_found_exactly(metric):
    rng = random.Random(1)
    training = [random_text(rng, "abcdefgh 你好，世界。", 4000, 4000) for _ in range(3)]
    planted = training[1][1234 : 1234 + 57]
    predictions = [random_text(rng, "ABCD", 100, 100) for _ in range(4)]
    predictions[2] = "XY" + planted + predictions[2]
    result = metric.compute(predictions=predictions, training_texts=training)
    assert result["longest_copy"] == planted and result["max_copied_characters"] == 57
    assert result["mean_copied_characters"] == pytest.approx(57 / 4)
    assert result["share_with_50_copied"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(("length", "share"), [(49, 0), (50, 1)])
def test_fifty_characters_are_a_long_copy(metric, length, share):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + length)))
    result = metric.compute(predictions=[text + "x"], training_texts=["y" + text + "z"])
    assert (result["max_copied_characters"], result["share_with_50_copied"]) == (length, share)


def test_no_match_spans_two_texts(metric):
    assert metric.compute(predictions=["abcd"], training_texts=["xab", "cdx"])["longest_copy"] == "ab"
    assert metric.compute(predictions=["xab", "cdx"], training_texts=["abcd"])["longest_copy"] == "ab"
    assert metric.compute(predictions=["a\0b"], training_texts=["xa", "b"])["longest_copy"] == "a"
    assert metric.compute(predictions=["a", "b"], training_texts=["a\0b"])["longest_copy"] == "a"


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("alphabet", ["ab", "abc你好😀"])
def test_agrees_with_trying_all_substrings(tmp_path, monkeypatch, chunk, alphabet):
    monkeypatch.setattr(verbatim_overlap, "_CHUNK", chunk)
    rng = random.Random(2)
    for _ in range(8):
        training = [random_text(rng, alphabet, 0, 30) for _ in range(4)] + ["a"]
        predictions = [random_text(rng, alphabet, 0, 25) for _ in range(6)] + ["b"]
        copies = [longest_copy(text, training) for text in predictions]
        result = VerbatimOverlap(cache_dir=str(tmp_path)).compute(predictions=predictions, training_texts=training)
        assert result["longest_copy"] == max(copies, key=len)
        assert result["mean_copied_characters"] == pytest.approx(sum(map(len, copies)) / len(copies))


@pytest.mark.parametrize(
    ("name", "predictions", "training"),
    [("predictions", [], ["a"]), ("predictions", ["", ""], ["a"]), ("training_texts", ["a"], [])],
)
def test_no_characters_is_an_error(metric, name, predictions, training):
    with pytest.raises(ValueError, match=f"{name} hold no character"):
        metric.compute(predictions=predictions, training_texts=training)
