import pytest
from datasets import Dataset

from boustro.data_scripts.errors import DataError
from boustro.data_scripts.splits import join_rows, split_documents, split_stream


def rows(*texts):
    return Dataset.from_dict({"text": list(texts)})


def texts(*parts):
    return tuple(part["text"][:] for part in parts)


@pytest.mark.parametrize("length", [2, 9, 10, 11, 1115394])
def test_one_document_is_cut_at_the_exact_character(length):
    text = ("To be, or not — 生存还是毁灭\n" * (length // 20 + 1))[:length]
    train, validation = texts(*split_stream(rows(text), 0.1))
    assert len(train[0]) == int(0.9 * length)
    assert train[0] + validation[0] == text


@pytest.mark.parametrize(
    ("fraction", "train", "validation"),
    [
        (0.5, ["abc", "de"], ["f", "ghij"]),
        (0.7, ["abc"], ["def", "ghij"]),
        (0.4, ["abc", "def"], ["ghij"]),
        (0.85, ["a"], ["bc", "def", "ghij"]),
        (0.1, ["abc", "def", "ghi"], ["j"]),
    ],
)
def test_a_stream_of_rows_is_cut_in_the_concatenated_text(fraction, train, validation):
    assert texts(*split_stream(rows("abc", "def", "ghij"), fraction)) == (train, validation)


def test_a_text_too_short_to_cut():
    with pytest.raises(DataError, match="text of 1 characters is too short to split"):
        split_stream(rows("a"), 0.1)


@pytest.mark.parametrize(
    ("sample_by", "joined"),
    [
        ("document", ["one\n\n", "two\n\n", "three\n\n\n", "four\n"]),
        ("line", ["one\n", "two\n", "three\n\n\n", "four\n"]),
    ],
)
def test_rows_of_a_stream_end_in_separators(sample_by, joined):
    assert texts(join_rows(rows("one", "two\n", "three\n\n\n", "four\n"), sample_by)) == (joined,)


def test_documents_are_chosen_by_seed_and_keep_their_order():
    every = [str(number) for number in range(40)]
    train, validation = texts(*split_documents(rows(*every), 0.1, seed=1))
    assert len(validation) == 4 and sorted(train + validation, key=int) == every
    assert train == sorted(train, key=int) and validation == sorted(validation, key=int)
    assert texts(*split_documents(rows(*every), 0.1, seed=1)) == (train, validation)
    assert texts(*split_documents(rows(*every), 0.1, seed=2)) != (train, validation)


def test_at_least_one_document_is_held_out():
    train, validation = texts(*split_documents(rows("a", "b"), 0.01, seed=0))
    assert len(train) == len(validation) == 1


def test_a_single_document_cannot_be_split():
    with pytest.raises(DataError, match=r"1 document cannot be split.*input_mode stream"):
        split_documents(rows("a"), 0.1, seed=0)
