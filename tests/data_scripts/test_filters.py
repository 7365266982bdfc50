from datasets import Dataset

from boustro.data_scripts.filters import empty, filter_rows, fingerprint, too_short


def filtered(texts, min_characters=1, deduplicate=True, num_proc=1):
    rows, drops = filter_rows(
        Dataset.from_dict({"text": texts}),
        min_characters=min_characters,
        deduplicate=deduplicate,
        num_proc=num_proc,
    )
    return rows["text"][:], drops


def test_empty():
    assert empty(" \n\u3000") == "empty"
    assert empty(" 字 ") is None


def test_too_short():
    assert too_short(" ab ", 3) == "too_short"
    assert too_short("三个字", 3) is None


def test_fingerprint_tells_texts_apart():
    assert fingerprint("好") == fingerprint("好") != fingerprint("好 ")


def test_duplicates_are_dropped_and_the_first_copy_stays():
    texts = ["a", "b", "a", "c", "b", "a"]
    assert filtered(texts) == (["a", "b", "c"], {"empty": 0, "too_short": 0, "duplicate": 3})
    assert filtered(texts, deduplicate=False) == (texts, {"empty": 0, "too_short": 0, "duplicate": 0})


def test_a_row_is_counted_under_its_first_reason():
    texts = ["", "", "ab", "ab", "long", "long"]
    assert filtered(texts, min_characters=3) == (["long"], {"empty": 2, "too_short": 2, "duplicate": 1})


def test_the_result_does_not_depend_on_the_number_of_processes():
    texts = [str(number % 7) * (number % 3) for number in range(40)]
    assert filtered(texts, num_proc=2) == filtered(texts)
