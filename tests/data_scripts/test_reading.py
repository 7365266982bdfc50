import io
import time

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


KEY = "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nabcd\n\nefgh\n-----END PGP PRIVATE KEY BLOCK-----"


@pytest.mark.parametrize("block", [5, 1 << 20])
@pytest.mark.parametrize("sample_by", ["line", "paragraph"])
def test_a_private_key_is_not_parted(sample_by, block, monkeypatch):
    monkeypatch.setattr(reading, "_BLOCK", block)
    assert [row for row, _ in rows(f"before\n\n{KEY}\n\nafter\n", sample_by) if row] == ["before", KEY, "after"]
    opened = rows("a\n\n-----BEGIN RSA PRIVATE KEY-----\n\nb\n\nc", "paragraph")
    assert len(opened) == 4  # without an end it is no key


def test_comments_and_scripts_are_not_parted_where_mark_up_goes():
    text = "a <!-- b\n\nc --> d\n\n<SCRIPT>e\n\nf</SCRIPT>\n\ng"
    found = list(read_rows(io.StringIO(text, newline=""), "paragraph", markup=True))
    assert [row for row, _ in found] == ["a <!-- b\n\nc --> d", "<SCRIPT>e\n\nf</SCRIPT>", "g"]
    assert len(rows(text, "paragraph")) == 5


def test_every_line_end_and_every_blank_counts():
    assert [row for row, _ in rows("one\rtwo\r\nthree\n", "line")] == ["one", "two", "three"]
    assert [row for row, _ in rows("one\n\u00a0\ntwo\r \x0c\rthree", "paragraph")] == ["one", "two", "three"]


@pytest.mark.parametrize("tail", ["\n" * 300_000, " " * 300_000, " \n" * 150_000, " " * 300_000 + "b"])
def test_reading_takes_time_by_length(tail):
    started = time.process_time()
    assert rows("a" + tail, "paragraph")[0][0].startswith("a")
    assert time.process_time() - started < 5


def test_files_are_parted():
    assert list(separate([("a", "\n"), ("b", "")], "\n\n")) == [("a", "\n"), ("b", "\n\n")]
    assert list(separate([("a\n", "")], "\n\n")) == [("a\n", "\n")]
    assert list(separate([], "\n")) == []
