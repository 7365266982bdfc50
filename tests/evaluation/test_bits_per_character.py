import math
from pathlib import Path

import evaluate
import pytest

import boustro.evaluation
from boustro.evaluation.bits_per_character import BitsPerCharacter

TEXTS = ["ab", "你好 "]  # 5 characters, 9 bytes


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return BitsPerCharacter(cache_dir=str(tmp_path))
    path = Path(boustro.evaluation.__file__).parent / "bits_per_character.py"
    return evaluate.load(str(path), cache_dir=str(tmp_path))


def test_divides_by_characters_and_by_bytes(metric):
    result = metric.compute(predictions=[3.0, 7.0], references=TEXTS)
    assert result["nats_per_character"] == pytest.approx(2.0)
    assert result["bits_per_character"] == pytest.approx(2 / math.log(2))
    assert result["bits_per_byte"] == pytest.approx(10 / math.log(2) / 9)
    assert (result["characters"], result["bytes"]) == (5, 9)


def test_no_characters_is_an_error(metric):
    with pytest.raises(ValueError, match="no character"):
        metric.compute(predictions=[1.0], references=[""])
