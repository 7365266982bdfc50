import numpy as np
import pytest

from boustro.data_scripts.errors import DataError
from boustro.data_scripts.splits import choose_documents, stream_cuts


@pytest.mark.parametrize("length", [2, 9, 10, 11, 1115394])
def test_one_document_is_cut_at_the_exact_character(length):
    assert stream_cuts(np.array([length]), [0.1]) == [(0, int(0.9 * length))]


@pytest.mark.parametrize(
    ("fraction", "row", "within"), [(0.5, 1, 2), (0.7, 1, 0), (0.4, 2, 0), (0.85, 0, 1), (0.1, 2, 3)]
)
def test_a_stream_of_rows_is_cut_in_the_concatenated_text(fraction, row, within):
    assert stream_cuts(np.array([3, 3, 4]), [fraction]) == [(row, within)]


def test_a_stream_is_cut_twice_for_three_parts():
    assert stream_cuts(np.array([3, 3, 4]), [0.3, 0.2]) == [(1, 2), (2, 2)]


def test_a_text_too_short_to_cut():
    with pytest.raises(DataError, match="text of 1 characters is too short to split"):
        stream_cuts(np.array([1]), [0.1])


def test_documents_are_chosen_by_seed():
    one = choose_documents(np.arange(40), [0.1, 0.2], seed=1)
    assert np.bincount(one).tolist() == [28, 4, 8]
    assert np.array_equal(one, choose_documents(np.arange(40), [0.1, 0.2], seed=1))
    assert not np.array_equal(one, choose_documents(np.arange(40), [0.1, 0.2], seed=2))


def test_a_group_stays_on_one_side():
    groups = np.arange(60) // 3
    for seed in range(20):
        part = choose_documents(groups, [0.2], seed)
        assert 12 <= part.sum() <= 14
        assert all(len(set(part[groups == group])) == 1 for group in range(20))


def test_at_least_one_document_is_held_out():
    assert choose_documents(np.arange(2), [0.01], seed=0).sum() == 1


@pytest.mark.parametrize("groups", [[0], [0, 0, 0]])
def test_what_belongs_together_cannot_be_split(groups):
    with pytest.raises(DataError, match=r"cannot be split.*input_mode stream"):
        choose_documents(np.array(groups), [0.1], seed=0)
