import math
import random
from collections import Counter
from pathlib import Path

import evaluate
import pytest

import boustro.evaluation
from boustro.evaluation.self_bleu import SelfBleu


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return SelfBleu(cache_dir=str(tmp_path))
    path = Path(boustro.evaluation.__file__).parent / "self_bleu.py"
    return evaluate.load(str(path), cache_dir=str(tmp_path))


def bleu(text, references, max_order):
    """BLEU as it is defined, one hypothesis at a time (NLTK's `sentence_bleu` with smoothing method 1)."""
    logs = []
    for order in range(1, max_order + 1):
        own, *others = (
            Counter(other[start : start + order] for start in range(len(other) - order + 1))
            for other in (text, *references)
        )
        matches = sum(min(times, max(other[ngram] for other in others)) for ngram, times in own.items())
        if order == 1 and matches == 0:
            return 0.0
        logs.append(math.log((matches or 0.1) / max(sum(own.values()), 1)))
    closest = min(map(len, references), key=lambda length: (abs(length - len(text)), length))
    return math.exp(min(1 - closest / len(text), 0) + sum(logs) / max_order)


def test_equal_texts_score_one_and_unlike_texts_zero(metric):
    assert metric.compute(predictions=["hello world"] * 3) == {"self_bleu": pytest.approx(1), "texts": 3}
    assert metric.compute(predictions=["hello", "你好，世界"]) == {"self_bleu": 0, "texts": 2}


@pytest.mark.parametrize(("first", "second"), [("abab", "abcd"), ("你好你好", "你好世界")])
def test_a_hand_computed_value(metric, first, second):
    # first: a and b match once each of twice, ab once of three pairs; second: ab once of three pairs
    result = metric.compute(predictions=[first, second], max_order=2)
    assert result["self_bleu"] == pytest.approx(math.sqrt(2 / 4 * 1 / 3))


def test_a_short_text_pays_the_brevity_penalty_and_smoothing(metric):
    # ab against abcd: all of it matches, no trigram exists; abcd against ab: 2 of 4, 1 of 3, none of 2
    result = metric.compute(predictions=["ab", "abcd"], max_order=3)
    expected = (math.exp(1 - 4 / 2) * 0.1 ** (1 / 3), (2 / 4 * 1 / 3 * 0.1 / 2) ** (1 / 3))
    assert result["self_bleu"] == pytest.approx(sum(expected) / 2)


def test_agrees_with_the_definition_on_random_texts(metric):
    rng = random.Random(0)
    texts = ["".join(rng.choices("abc你", k=rng.randint(1, 12))) for _ in range(25)]
    scores = [bleu(text, texts[:index] + texts[index + 1 :], 4) for index, text in enumerate(texts)]
    result = metric.compute(predictions=texts, max_order=4)
    assert result["self_bleu"] == pytest.approx(sum(scores) / len(scores))


def test_an_empty_text_among_others_scores_zero(metric):
    assert metric.compute(predictions=["abcdef", "abcdef", ""])["self_bleu"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("texts", [[], ["abc"], ["", ""]])
def test_fewer_than_two_texts_or_no_character_is_an_error(metric, texts):
    with pytest.raises(ValueError, match="expected at least two texts and one character"):
        metric.compute(predictions=texts)
