from pathlib import Path

import evaluate
import pytest

import boustro.evaluation
from boustro.evaluation.repetition import Repetition


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return Repetition(cache_dir=str(tmp_path))
    path = Path(boustro.evaluation.__file__).parent / "repetition.py"
    return evaluate.load(str(path), cache_dir=str(tmp_path))


def test_counts_ngrams_seen_earlier_in_the_same_text(metric):
    # abcabc: abc bca cab abc, the last one again; the second text repeats the first one, which does not count
    assert metric.compute(predictions=["abcabc", "abca"], n=3)["repeated_share"] == pytest.approx(1 / 6)
    assert metric.compute(predictions=["你好你好你"], n=2)["repeated_share"] == pytest.approx(2 / 4)


def test_texts_shorter_than_n_have_no_share(metric):
    assert metric.compute(predictions=["abc", ""], n=4) == {"repeated_share": None, "looping_share": 0}
    assert metric.compute(predictions=["abcab", "ab"], n=2)["repeated_share"] == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("so it goes" * 3, True),
        ("well, " + "so it goes" * 3 + "so it", True),
        ("well, " + "so it goes" * 2 + "so it goe", False),
        ("so it goes" * 3 + "!", False),
        ("他说：" + "你好，世界。" * 3, True),
        ("他说：" + "你好，世界。" * 2, False),
        ("a" * 16, True),
        ("a" * 15, False),
        ("And then ...", False),
        ("", False),
    ],
)
def test_a_loop_is_a_final_period_three_times_over(metric, text, loops):
    assert metric.compute(predictions=[text, "a text of another kind"])["looping_share"] == loops / 2


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_characters_is_an_error(metric, texts):
    with pytest.raises(ValueError, match=f"{len(texts)} texts without a character"):
        metric.compute(predictions=texts)


def test_n_is_positive(metric):
    with pytest.raises(ValueError, match="n is 0"):
        metric.compute(predictions=["ab"], n=0)
