import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from boustro.data_scripts import segmentation
from boustro.data_scripts.segmentation import word_starts, word_starts_of_rows


@pytest.mark.parametrize(
    "words",
    [
        ["The", " ", "quick", " ", "(", "“", "brown", "”", ")", " ", "fox", " ", "can't", " ", "jump", "!"],
        ["ROMEO", ":", "\n", "It", " ", "is", " ", "3.14", ",", " ", "not", " ", "10,000", ";", " ", "o'er"],
        ["a", "  ", "b", "\n\n\t ", "c", ".", ".", ".", "\r\n", "d"],
        ["foo_bar", " ", "x", "=", "=", "__init__", "(", "u2", ")"],
        ["e", "-", "mail", " ", "naïve", " ", "cafe\u0301", " ", "Straße", " ", "Привет", ",", " ", "мир"],
        ["我", "来到", "北京", "清华大学", "。"],
        ["“", "你好", "，", "世界", "！", "”", "\u3000", "…", "…"],
        ["使用", "Python", " ", "3.12", "写", " ", "code", "，", "2024", "年"],
        ["東京", "へ", "カタカナ", "한국어", " ", "텍스트"],
        ["𠮷", "野家"],
        ["Hi", " ", "👨‍👩‍👧", "👍🏽", "❤️", " ", "🇨🇳", "🇺🇸", "🇨", "!"],
        ["\u0301", "a", "\n", "\u0301", "b"],
        ["x"],
        [],
    ],
)
def test_words(words):
    text = "".join(words)
    expected = [position == 0 for word in words for position in range(len(word))]
    flags = word_starts(text)
    assert flags.dtype == np.uint8
    assert flags.tolist() == expected


@given(st.lists(st.text(st.sampled_from("ab1'. \n\r，北京人民大学👩\u200d\u0301🇨é_カ")), min_size=1, max_size=5))
def test_rows_are_segmented_as_if_alone(texts):
    expected = np.concatenate([word_starts(text) for text in texts])
    np.testing.assert_array_equal(word_starts_of_rows(texts), expected)


SEPARATE = regex.compile(segmentation._ANY_SPAN, regex.VERBOSE | regex.DOTALL | regex.VERSION1)


@given(
    st.text(st.characters(codec="utf-8") | st.sampled_from("abZ1_ \n\t,;!?.:'、。，中国々é\u0301\u200d👩"), min_size=1)
)
@settings(max_examples=500)
def test_plain_spans_are_those_of_the_rules(text):
    assert segmentation._SPAN.findall(text) == SEPARATE.findall(text)


@given(st.text(st.characters(codec=None), min_size=1))
def test_any_text_begins_with_a_word(text):
    flags = word_starts(text)
    assert len(flags) == len(text) and flags[0] == 1 and flags.max() == 1


@pytest.mark.parametrize("pattern", ["word, ", "a", " ", "的", "中国，", "🇨🇳", "a\u0301", "👩\u200d"])
def test_long_strings(pattern):
    text = pattern * (200_000 // len(pattern))
    assert len(word_starts(text)) == len(text)
