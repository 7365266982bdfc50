import json
import logging
import os
import re

import datasets
import pytest
from datasets import Dataset
from datasets.exceptions import DatasetNotFoundError

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.sources import default_corpus, limit, open_source

POEM = "床前明月光，\r\n疑是地上霜。\r\n\r\n举头望明月，\u2028低头思故乡。\x0c\x85\n"


def load(**fields):
    return [text for text, _ in open_source(DataArguments(**fields)).rows()]


def joined(**fields):
    return "".join((text or "") + separator for text, separator in open_source(DataArguments(**fields)).rows())


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_default_corpus():
    text = default_corpus()
    assert text == default_corpus() and 300_000 < len(text) < 900_000
    assert 'The "assert" statement' in text
    assert load() == [text]
    assert joined(input_mode="documents") == text
    assert len(load(input_mode="documents", sample_by="paragraph")) > 500


def test_a_document_is_read_character_for_character(write):
    assert load(train_file=write("a.txt", POEM)) == [POEM]


def test_lines_and_paragraphs(write):
    path = write("a.txt", POEM)
    lines = ["床前明月光，", "疑是地上霜。", "", "举头望明月，\u2028低头思故乡。\x0c\x85"]
    assert load(train_file=path, input_mode="documents") == lines
    paragraphs = ["床前明月光，\r\n疑是地上霜。", "举头望明月，\u2028低头思故乡。\x0c\x85"]
    assert load(train_file=path, input_mode="documents", sample_by="paragraph") == paragraphs
    assert joined(train_file=path, sample_by="line") == joined(train_file=path, sample_by="paragraph") == POEM


def test_globs_and_names_with_glob_characters(write, tmp_path):
    write("b.txt", "b")
    write("[a]*.txt", "a")
    assert load(train_file=str(tmp_path / "*.txt")) == ["a", "b"]


@pytest.mark.parametrize("streaming", [False, True])
def test_jsonl(write, streaming):
    path = write("a.jsonl", jsonl({"n": 1, "body": "一\n\u2028二"}, {"n": 2}, {"n": 3, "body": "three"}))
    texts = load(train_file=path, text_column="body", streaming=streaming, max_characters=100)
    assert texts == ["一\n\u2028二", None, "three"]


def test_nothing_is_silenced_while_rows_are_waiting(write):
    path = write("a.jsonl", jsonl({"text": "one"}, {"text": "two"}))
    before = datasets.logging.get_verbosity()
    rows = open_source(DataArguments(train_file=path)).rows()
    assert next(rows)[0] == "one"
    assert datasets.logging.get_verbosity() == before


def test_blocks_of_a_file_follow_each_other(write):
    texts = [letter * 40_000 for letter in "abcde"]
    path = write("a.jsonl", jsonl(*({"text": text} for text in texts)))
    assert load(train_file=path) == texts


@pytest.mark.parametrize("streaming", [False, True])
def test_csv(write, streaming):
    path = write("a.csv", '\ufeffbody,n\nNA,1\n"null, or\n""none""",2\n007,\n')
    texts = load(train_file=path, text_column="body", streaming=streaming, max_characters=100)
    assert texts == ["NA", 'null, or\n"none"', "007"]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(tmp_path, streaming):
    path = tmp_path / "a.parquet"
    Dataset.from_dict({"n": [1, 2], "body": ["one", "二"]}).to_parquet(path)
    texts = load(train_file=str(path), text_column="body", streaming=streaming, max_characters=100)
    assert texts == ["one", "二"]


@pytest.mark.parametrize("streaming", [False, True])
def test_no_more_than_max_characters(write, tmp_path, streaming):
    write("1.txt", "abc")
    write("2.txt", "def")
    write("3.txt", "ghi")
    pattern = str(tmp_path / "*.txt")
    assert load(train_file=pattern, max_characters=5, streaming=streaming) == ["abc", "de"]
    assert load(train_file=pattern, max_characters=6, streaming=streaming) == ["abc", "def"]


def test_rows_are_taken_as_they_come():
    def rows():
        yield "abc", "\n"
        yield None, "\n"
        yield "def", "\n"
        raise AssertionError("read on")

    assert list(limit(rows(), 6)) == [("abc", "\n"), (None, "\n"), ("def", "")]
    assert list(limit(rows(), 2)) == [("ab", "")]


def test_a_changed_file_is_read_anew(write):
    for content in ("old", "new"):
        path = write("a.txt", content)
        os.utime(path, ns=(0, 0))  # same name, size and time
        assert load(train_file=path) == [content]


def test_nothing_is_written_beside_the_file(write, tmp_path):
    load(train_file=write("a.txt", "text"))
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_local_dataset_folder_by_name(tmp_path):
    (tmp_path / "data.jsonl").write_text(jsonl({"text": "one", "n": 1}, {"text": "two", "n": 2}))
    assert load(dataset_name=str(tmp_path)) == ["one", "two"]
    assert load(dataset_name=str(tmp_path), streaming=True, max_characters=4) == ["one", "t"]


# Errors


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_column_that_does_not_exist(write, tmp_path, name, streaming):
    rows = Dataset.from_dict({"id": [1], "body": ["one"]})
    path = str(tmp_path / name)
    {"a.jsonl": rows.to_json, "a.csv": rows.to_csv, "a.parquet": rows.to_parquet}[name](path)
    with pytest.raises(DataError, match=f"{name} has no column 'text'; its columns are 'id', 'body': name the"):
        load(train_file=path, streaming=streaming, max_characters=9)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("values", [[1, 2], ["a", 2], [["a"], ["b"]], [{"a": 1}, {"b": 2}]])
def test_a_column_that_holds_no_strings(write, values, streaming):
    path = write("a.jsonl", jsonl(*({"text": value} for value in values)))
    with pytest.raises(DataError, match=r"Column 'text' of .*a.jsonl holds .*, expected strings"):
        load(train_file=path, streaming=streaming, max_characters=9)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"text": "three}', r"line 3: no valid JSON \(.*, column 1[07]\). Mend"),
        ('"three"', r'line 3: str, expected an object such as {"text": "..."}'),
        ('{"text": "\\ud800"}', "line 3: a lone surrogate"),
    ],
)
def test_a_bad_line_of_json(write, tmp_path, line, fault, streaming):
    write("good.jsonl", jsonl({"text": "one"}))
    write("z.jsonl", jsonl({"text": "one"}) + "\n" + line + "\n" + jsonl({"text": "four"}))
    with pytest.raises(DataError, match=f"z.jsonl, {fault}"):
        load(train_file=str(tmp_path / "*.jsonl"), streaming=streaming, max_characters=99)


def test_a_parser_says_nothing_beside_the_error(write, monkeypatch):
    logged = []
    monkeypatch.setattr(logging.Logger, "handle", lambda self, record: logged.append(record.getMessage()))
    with pytest.raises(DataError, match="no valid JSON"):
        load(train_file=write("a.jsonl", '{"text": "one"}\n{"text":\n'))
    assert logged == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("text\nHello, world\n", "Length of header or names does not match"),
        ("text,n\na,1\nHello, world,2\n", "Expected 2 fields in line 3, saw 3"),
        ('text,n\na,1\n"b,2\n', "EOF inside string starting at row 2"),
    ],
)
def test_a_bad_csv(write, tmp_path, content, fault):
    write("a.csv", "text\ngood\n")
    write("b.csv", content)
    with pytest.raises(DataError, match=f"b.csv cannot be read as csv: .*{fault}"):
        load(train_file=str(tmp_path / "*.csv"))


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_of_another_separator(write, mark):
    path = write("a.csv", f"id{mark}text\n1{mark}Hello, world\n")
    sentence = f"{path} is separated by {mark!r}, expected commas: save it with commas."
    with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
        load(train_file=path)


def test_a_bad_parquet_file(write):
    with pytest.raises(DataError, match=r"a.parquet cannot be read as parquet: Parquet magic bytes not found"):
        load(train_file=write("a.parquet", "text,n\nnot parquet,1\n"))


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,n\n"), ("a.jsonl", "\n\n")])
def test_no_rows(write, name, content):
    with pytest.raises(DataError, match=f"{name} has no rows"):
        load(train_file=write(name, content))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("no route"), r"'someone/set' could not be reached \(no route\): check the connection"),
        (DatasetNotFoundError("gone"), r"There is no dataset 'someone/set' on the Hub, or it is private"),
        (ValueError("Unknown split 'x'"), "'someone/set' cannot be loaded: Unknown split 'x'"),
        (RuntimeError(), "'someone/set' cannot be loaded: RuntimeError"),
    ],
)
def test_a_dataset_that_cannot_be_loaded(monkeypatch, error, message):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=message):
        load(dataset_name="someone/set")


def test_the_splits_and_columns_there_are_get_listed(tmp_path):
    (tmp_path / "data.jsonl").write_text(jsonl({"title": "one"}))
    with pytest.raises(DataError, match=r'Unknown split "tests". Should be one of \[.train.\]'):
        load(dataset_name=str(tmp_path), dataset_split="tests")
    with pytest.raises(DataError, match="has no column 'text'; its columns are 'title'"):
        load(dataset_name=str(tmp_path))
