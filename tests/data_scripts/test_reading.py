import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boustro.data_scripts import reading
from boustro.data_scripts.reading import read_rows, separate

TEXTS = st.text(st.sampled_from("ab \t\r\n\u3000字\x85\u2028"))


def rows(text, sample_by):
    return list(read_rows(io.StringIO(text, newline=""), sample_by))


@pytest.mark.parametrize("sample_by", ["line", "paragraph", "document"])
@given(text=TEXTS)
def test_nothing_is_lost(sample_by, text):
    assert "".join(row + separator for row, separator in rows(text, sample_by)) == text


@pytest.mark.parametrize("sample_by", ["line", "paragraph", "document"])
@given(text=TEXTS)
def test_rows_do_not_depend_on_how_a_file_is_read(sample_by, text):
    whole, block = rows(text, sample_by), reading._BLOCK
    try:
        reading._BLOCK = 3
        assert rows(text, sample_by) == whole
    finally:
        reading._BLOCK = block


def test_paragraphs_keep_their_indentation():
    text = "\u3000\u3000One\r\ntwo\r\n \t\r\n\r\n\u3000\u3000Three\n"
    assert rows(text, "paragraph") == [
        ("\u3000\u3000One\r\ntwo", "\r\n \t\r\n\r\n"),
        ("\u3000\u3000Three", "\n"),
    ]


def test_a_long_row_is_cut_at_line_ends(monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_ROW", 10)
    monkeypatch.setattr(reading, "_BLOCK", 7)
    text = "one\ntwo\nthree\nabcdefghijklmnopqrst\r\nend"
    cut = rows(text, "document")
    assert cut == [
        ("one\ntwo\n", ""), ("three\n", ""), ("abcdefghij", ""), ("klmnopqrst", ""), ("\r\nend", ""),
    ]  # fmt: skip


def test_files_are_parted():
    assert list(separate([("a", "\n"), ("b", "")], "\n\n")) == [("a", "\n"), ("b", "\n\n")]
    assert list(separate([("a\n", "")], "\n\n")) == [("a\n", "\n")]
    assert list(separate([], "\n")) == []
