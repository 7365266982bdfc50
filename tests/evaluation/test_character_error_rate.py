import functools
import random
from pathlib import Path

import evaluate
import pytest

import boustro.evaluation
from boustro.evaluation.character_error_rate import CharacterErrorRate


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return CharacterErrorRate(cache_dir=str(tmp_path))
    path = Path(boustro.evaluation.__file__).parent / "character_error_rate.py"
    return evaluate.load(str(path), cache_dir=str(tmp_path))


@functools.cache
def distance(left, right):
    """The Levenshtein distance by its recursive definition."""
    if not left or not right:
        return len(left) + len(right)
    substitution = distance(left[1:], right[1:]) + (left[0] != right[0])
    return min(substitution, distance(left[1:], right) + 1, distance(left, right[1:]) + 1)


@pytest.mark.parametrize(
    ("prediction", "reference", "edits"),
    [
        ("kitten", "sitting", 3),
        ("hello", "hello", 0),
        ("", "abc", 3),
        ("xabc", "abc", 1),
        ("abcabcabc", "abc", 6),
        ("你好，世界", "您好世界", 2),
        ("😀b", "😁b", 1),
    ],
)
def test_hand_computed_distances(metric, prediction, reference, edits):
    result = metric.compute(predictions=[prediction], references=[reference])
    assert (result["edits"], result["characters"]) == (edits, len(reference))
    assert result["character_error_rate"] == pytest.approx(edits / len(reference))


def test_all_texts_together_are_divided_once(metric):
    result = metric.compute(predictions=["ax", "x", "abcdef"], references=["ab", "", "abcdef"])
    assert result["character_error_rate"] == pytest.approx((1 + 1 + 0) / 8)


def test_agrees_with_the_recursive_definition(tmp_path):
    rng = random.Random(0)
    texts = ["".join(rng.choices("ab你", k=rng.randint(0, 9))) for _ in range(80)]
    predictions, references = texts[:40], texts[40:]
    result = CharacterErrorRate(cache_dir=str(tmp_path)).compute(predictions=predictions, references=references)
    assert result["edits"] == sum(map(distance, predictions, references))


def test_positions_are_compared_without_alignment(metric):
    # the inserted x puts out every later character; the short text lacks its last two
    result = metric.compute(predictions=["abxcdefgh", "你好"], references=["abcdefgh", "你好世界"], bucket=2)
    assert result["by_position"] == pytest.approx([0, 1, 1, 1])
    assert result["edits"] == 3
    result = metric.compute(predictions=["abXdE", "abcde"], references=["abcde", "abcde"], bucket=3)
    assert result["by_position"] == pytest.approx([1 / 6, 1 / 4])


def test_no_characters_is_an_error(metric):
    with pytest.raises(ValueError, match="1 references without a character"):
        metric.compute(predictions=["abc"], references=[""])
    with pytest.raises(ValueError, match="0 references without a character"):
        metric.compute(predictions=[], references=[])


def test_the_bucket_is_positive(metric):
    with pytest.raises(ValueError, match="bucket is 0"):
        metric.compute(predictions=["ab"], references=["ab"], bucket=0)
