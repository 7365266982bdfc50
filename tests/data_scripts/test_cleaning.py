import pytest
from hypothesis import given
from hypothesis import strategies as st

from boustro.data_scripts.cleaning import clean_batch, clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\r\nb\rc\n\r\n", "a\nb\nc\n\n"),
        ("\ufeffStart \ufeffmiddle", "Start middle"),
        ("a\x00b\x07c\x0cd\x1be\x7ff\tg", "abcdef\tg"),
        ("cafe\u0301", "café"),
        ("e\x00\u0301", "é"),  # the control would have hindered composition
        ("\ud83d\ude00 \ud800!", "😀 \ufffd!"),
        ("你好，世界　（全角）", "你好，世界　（全角）"),
        ("👨‍👩‍👧 👍🏽 ❤️ می‌خواهم", "👨‍👩‍👧 👍🏽 ❤️ می‌خواهم"),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean


def test_normal_form_is_a_choice():
    assert clean_text("cafe\u0301 ﬁ", "none") == "cafe\u0301 ﬁ"
    assert clean_text("ﬁ Ａ", "NFKC") == "fi A"


@given(st.text(st.characters(codec=None)))
def test_clean_text_is_idempotent_and_encodable(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    cleaned.encode("utf-8")


def test_clean_batch_turns_missing_values_into_empty_text():
    assert clean_batch({"text": ["a\r\n", None]}) == {"text": ["a\n", ""]}
