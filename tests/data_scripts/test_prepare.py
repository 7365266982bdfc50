from pathlib import Path

import datasets
import numpy as np
import pytest

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import prepare
from boustro.tokenization_boustro import BoustroTokenizer

VERSES = [f"第{number}句：春眠不觉晓，处处闻啼鸟。Line {number}!" for number in range(50)]


def decode(prepared, part):
    return prepared.tokenizer.decode(part.ids.tolist())


def documents(prepared, part):
    return [
        prepared.tokenizer.decode(part.ids[start:end].tolist())
        for start, end in zip(part.offsets, part.offsets[1:], strict=False)
    ]


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "word_starts", "offsets"))


def test_a_stream_keeps_every_character(write):
    text = "\n".join(VERSES) + "\n\n\t最后 \U0001f600\n"
    prepared = prepare(DataArguments(train_file=write("a.txt", text)))
    train, validation = decode(prepared, prepared.train), decode(prepared, prepared.validation)
    assert train + validation == text
    assert len(train) == prepared.train.characters == int(0.9 * len(text))


def test_report_of_documents(write):
    path = write("a.txt", "\n".join([*VERSES, VERSES[3], "", "  ", "短", "cafe\u0301\x07"]))
    prepared = prepare(DataArguments(train_file=path, input_mode="documents", min_characters=4))
    report = prepared.report
    assert report["name"] == Path(path).name and report["input_mode"] == "documents"
    assert report["input"]["rows"] == 55 and report["kept"]["rows"] == 51
    assert report["kept"]["characters"] == sum(map(len, VERSES)) + len("café")
    assert report["dropped"] == {"empty": 2, "too_short": 1, "duplicate": 1}
    assert (report["train"]["documents"], report["validation"]["documents"]) == (46, 5)
    assert report["vocabulary_size"] == len(prepared.tokenizer)
    texts = documents(prepared, prepared.train) + documents(prepared, prepared.validation)
    assert sorted(texts) == sorted([*VERSES, "café"])


def test_the_tokenizer_knows_the_training_part_alone(write):
    prepared = prepare(DataArguments(train_file=write("a.txt", "ab" * 45 + "猫b" * 5)))
    assert prepared.tokenizer.characters == ["a", "b"]
    assert prepared.report["unknown_share"] == 0.5
    assert prepared.report["validation"] == {"documents": 1, "characters": 10, "bytes": 20, "ids": 20}


def test_vocabulary_limits(write):
    path = write("a.txt", "a" * 50 + "b" * 30 + "c" * 2 + "d" + "a" * 30)
    frequent = prepare(DataArguments(train_file=path, min_frequency=2))
    assert frequent.tokenizer.characters == ["a", "b", "c"]
    assert prepare(DataArguments(train_file=path, max_vocab_size=260)).tokenizer.characters == ["a"]


def test_a_given_tokenizer_is_used_as_it_is(write):
    tokenizer = BoustroTokenizer.train_from_iterator(["xyz"])
    prepared = prepare(DataArguments(train_file=write("a.txt", "xyz abc " * 10)), tokenizer)
    assert prepared.tokenizer is tokenizer
    assert prepared.report["vocabulary_size"] == 262 and prepared.report["unknown_share"] > 0


def test_a_validation_file(write):
    args = DataArguments(
        train_file=write("train.txt", "abc\n\nabc"),
        validation_file=write(
            "valid.jsonl", '{"text": "b\\r\\na"}\n{"text": null}\n{"text": "b\\na"}\n{"text": "c"}\n'
        ),
    )
    prepared = prepare(args)
    assert decode(prepared, prepared.train) == "abc\n\nabc"
    assert documents(prepared, prepared.validation) == ["b\na\n\n", "c"]
    assert prepared.report["validation_dropped"] == {"empty": 1, "duplicate": 1}
    assert prepared.report["validation_input"] == {"rows": 4, "characters": 8}


@pytest.mark.parametrize("input_mode", ["stream", "documents"])
def test_the_result_is_determined_by_data_options_and_seed(write, input_mode):
    path = write("a.txt", "\n".join(VERSES))
    args = {"train_file": path, "input_mode": input_mode, "sample_by": "line"}
    one, two = prepare(DataArguments(**args)), prepare(DataArguments(**args, num_proc=2))
    assert same(one.train, two.train) and same(one.validation, two.validation)
    assert one.report == two.report
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    other = prepare(DataArguments(**args), seed=1)
    assert same(one.validation, other.validation) == (input_mode == "stream")


def test_streams_of_lines_keep_their_line_ends(write):
    prepared = prepare(DataArguments(train_file=write("a.txt", "one\ntwo\nthree\nfour"), sample_by="line"))
    assert decode(prepared, prepared.train) + decode(prepared, prepared.validation) == "one\ntwo\nthree\nfour"


def test_the_default_corpus(capfd):
    prepared = prepare(DataArguments(max_characters=20_000))
    assert prepared.report["train"]["characters"] == 18_000
    assert prepared.report["name"] == "Python reference topics (pydoc_data.topics)"
    assert capfd.readouterr() == ("", "")
    assert datasets.is_progress_bar_enabled()


def test_nothing_left(write):
    with pytest.raises(
        DataError, match=r"Nothing is left of .*a.txt after cleaning: 3 rows read, dropped 2 empty, 1 too"
    ):
        prepare(DataArguments(train_file=write("a.txt", "\ufeff\n ab\n \n"), input_mode="documents", min_characters=5))


def test_nothing_left_beside_what_is_held_out(write):
    path = write("a.txt", "\n".join(VERSES))
    args = DataArguments(train_file=path, validation_file=path, input_mode="documents")
    with pytest.raises(DataError, match=r"50 rows read, dropped 50 held_out. held_out rows are copies of rows "):
        prepare(args)
