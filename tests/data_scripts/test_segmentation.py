import importlib
import sys

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from boustro.data_scripts import segmentation
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.segmentation import load_segmenter, segmenter_code, word_starts, word_starts_of_rows


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


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the name `own_segmenter`, which is then loaded anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def module(code):
        (tmp_path / "own_segmenter.py").write_text(code)
        importlib.invalidate_caches()
        sys.modules.pop("own_segmenter", None)
        load_segmenter.cache_clear()
        return "own_segmenter:cut"

    yield module
    sys.modules.pop("own_segmenter", None)
    load_segmenter.cache_clear()


def test_a_segmenter_of_ones_own(module):
    segmenter = load_segmenter(module("def cut(run):\n    yield from ('', run[:1], run[1:], '')\n"))
    assert word_starts("a北京人民b", segmenter).tolist() == [1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def cut(run): return [run[1:]]",
            r"own_segmenter:cut cut '北京人民' into words that begin '京人民', 3 characters",
        ),
        ("def cut(run): return [run, run]", r"8 characters where 4 were given; expected words that join up"),
        ("def cut(run): return run[9]", r"own_segmenter:cut failed on '北京人民' \(IndexError\('string index out of"),
        ("def cut(run): return [2, 2]", r"failed on '北京人民' \(TypeError.*expected its words as strings\. Mend it"),
        ("cut = 3", r"segmenter is 'own_segmenter:cut', expected a module and a function of it .*it is of type int"),
        ("cut = ", r"segmenter is 'own_segmenter:cut', expected .*SyntaxError"),
        ("def other(run): return [run]", r"segmenter is 'own_segmenter:cut', expected .*AttributeError"),
    ],
)
def test_a_segmenter_that_does_not_work(module, code, message):
    with pytest.raises(DataError, match=message):
        word_starts("北京人民", load_segmenter(module(code)))


def test_the_code_of_a_segmenter_counts(module):
    codes = [segmenter_code(module(f"def cut(run): return [run]  # {number}")) for number in (1, 2, 1)]
    assert codes[0] == codes[2] != codes[1]
    assert segmenter_code("os.path:join") != segmenter_code("rjieba:cut") == segmenter_code("rjieba:cut")
    assert segmenter_code("builtins:list")  # which has no file
