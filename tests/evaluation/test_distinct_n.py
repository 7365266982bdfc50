from pathlib import Path

import evaluate
import pytest

import boustro.evaluation
from boustro.evaluation.distinct_n import DistinctN


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return DistinctN(cache_dir=str(tmp_path))
    path = Path(boustro.evaluation.__file__).parent / "distinct_n.py"
    return evaluate.load(str(path), cache_dir=str(tmp_path))


def test_counts_different_ngrams_per_character(metric):
    # ab ba | ab bc: ab once for both texts, and none across their border
    result = metric.compute(predictions=["aba", "abc"], n=(1, 2, 4))
    assert result == pytest.approx(
        {"distinct_1": 3 / 6, "distinct_2": 3 / 6, "distinct_4": 0, "counted_characters": 6}
    )


def test_a_chinese_character_is_one_unit(metric):
    result = metric.compute(predictions=["你好你好"], n=(1, 2))
    assert result == pytest.approx({"distinct_1": 2 / 4, "distinct_2": 2 / 4, "counted_characters": 4})


def test_only_the_first_characters_count(metric):
    result = metric.compute(predictions=["abc", "defgh", "ijk"], n=(2,), max_characters=5)
    assert result == pytest.approx({"distinct_2": 3 / 5, "counted_characters": 5})
    longer = [metric.compute(predictions=["ab" * 50, "ab" * repeats], max_characters=100) for repeats in (1, 900)]
    assert longer[0] == longer[1]


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_characters_is_an_error(metric, texts):
    with pytest.raises(ValueError, match=f"{len(texts)} texts without a character"):
        metric.compute(predictions=texts)


@pytest.mark.parametrize("options", [{"n": ()}, {"n": (2, 0)}, {"max_characters": 0}])
def test_sizes_are_positive(metric, options):
    with pytest.raises(ValueError, match="all positive"):
        metric.compute(predictions=["ab"], **options)
