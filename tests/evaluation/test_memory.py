import sys

import pytest

from boustro.evaluation.memory import memory_of_use
from tests.conftest import small_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def test_a_larger_model_takes_more_by_its_size(tmp_path):
    found = []
    for name, size in (("small", 8), ("large", 1200)):
        model = small_model(hidden_size=size)
        model.save_pretrained(tmp_path / name)
        figures = memory_of_use(str(tmp_path / name))
        found.append(figures["memory_mib"] - figures["libraries_mib"])
        weights = model.get_memory_footprint() / 2**20
    # the file read, the weights, and for decoding two copies of most of them
    assert weights > 50 and weights * 0.9 < found[1] - found[0] < 5 * weights


def test_a_process_that_fails_is_not_measured(tmp_path):
    assert memory_of_use(str(tmp_path)) == {"libraries_mib": None, "memory_mib": None}
