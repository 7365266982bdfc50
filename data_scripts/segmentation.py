"""Where words start: spaced scripts by Unicode's word boundaries, Han by a dictionary segmenter.

Words are cut by the default rules of Unicode Standard Annex 29, so that a word keeps its inner apostrophes and
decimal points, an emoji sequence is one word, and each mark of punctuation is one. Where those rules only say
"anywhere" between Han characters, `rjieba` (jieba's dictionary and hidden Markov model) decides; it is given runs
of Han alone. Hiragana, Thai, Lao, Khmer and Burmese have no segmenter here: each of their characters starts a
word.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import regex
import rjieba

from .errors import DataError

# UAX 29, section 4.1.1, as spans without a boundary (but for Hebrew's quotation marks, WB7a to WB7c). The boundary
# (?w)\b of `regex` is no substitute: it also cuts before a vowel after an apostrophe, as in o'er.
_MARKS = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*+"  # WB4
_LETTER = rf"[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{_MARKS}"
_DIGIT = rf"\p{{WB=Numeric}}{_MARKS}"
_KATAKANA = rf"\p{{WB=Katakana}}{_MARKS}"
_JOINER = rf"[\p{{WB=ExtendNumLet}}--\s]{_MARKS}"
_FLAG = rf"\p{{WB=Regional_Indicator}}{_MARKS}"
_IN_WORD = rf"[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_MARKS}"
_IN_NUMBER = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_MARKS}"
_LETTERS = rf"{_LETTER}(?:(?:{_IN_WORD})?{_LETTER})*+"  # WB5 to WB7
_DIGITS = rf"{_DIGIT}(?:(?:{_IN_NUMBER})?{_DIGIT})*+"  # WB8, WB11, WB12
_WORD = rf"(?:(?:{_LETTERS}|{_DIGITS})++|(?:{_KATAKANA})++)"  # WB9, WB10, WB13
# The commonest spans, found twice as fast by what follows them: no mark, joiner or letter that would make them longer.
_PLAIN_SPAN = r"""
    [A-Za-z]++ (?= [ \n,;!?] )
    | [ ] (?= [!-~\u4e00-\u9fff] )
    | [\u4e00-\u9fff]++ (?= [、。！，？] )
    | [,;!?、。！，？] (?= [ \n!-~\u4e00-\u9fff] )
"""
_ANY_SPAN = rf"""
    (?: \s++ (?: (?<! [\r\n\v\f\x85\u2028\u2029] ) {_MARKS} )?  # WB3a, WB3d, for any white space
      | \p{{Script=Han}}++ {_MARKS}
      | (?:{_JOINER})*+ {_WORD} (?: (?:{_JOINER})++ {_WORD} )*+ (?:{_JOINER})*+  # WB13a, WB13b
      | (?:{_JOINER})++
      | {_FLAG} (?:{_FLAG})?
      | . {_MARKS}
    )
    (?: (?<= \u200d ) \p{{Extended_Pictographic}} {_MARKS} )*+  # WB3c
"""
_SPAN = regex.compile(f"{_PLAIN_SPAN} | {_ANY_SPAN}", regex.VERBOSE | regex.DOTALL | regex.VERSION1)
_HAN_RUN = regex.compile(r"\p{Script=Han}{2,}")


DEFAULT_SEGMENTER = "rjieba:cut"
Segmenter = Callable[[str], Iterable[str]]  # from a run of Han characters to its words


@cache
def load_segmenter(name: str) -> Segmenter:
    """The function of a name such as "jieba:lcut", a module and what it holds, with a check of what it returns.

    Raises:
        DataError: if it is not there or no function; when it is called, if it fails, or if its words do not join up to
            what it was given.
    """
    return partial(_cut, name, _function(name))


def segmenter_code(name: str) -> str:
    """A hash of the files in which a segmenter is named and written, by which its results can be told apart.

    Raises:
        DataError: as `load_segmenter`.
    """
    function = _function(name)
    modules = (importlib.import_module(name.partition(":")[0]), inspect.getmodule(function))
    files = {Path(module.__file__) for module in modules if getattr(module, "__file__", None)}
    return hashlib.blake2b(b"".join(file.read_bytes() for file in sorted(files)), digest_size=8).hexdigest()


def _function(name: str) -> Segmenter:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
        if not callable(function):
            raise TypeError(f"it is of type {type(function).__name__}")
    except Exception as error:  # whatever goes wrong in a module of the user's
        raise DataError(
            f"segmenter is {name!r}, expected a module and a function of it such as jieba:lcut ({error!r})."
        ) from error
    return function


def _cut(name: str, function: Segmenter, run: str) -> list[str]:
    try:
        words = [word for word in function(run) if word]
        joined = "".join(words)
    except Exception as error:
        raise DataError(
            f"segmenter {name} failed on {run[:20]!r} ({error!r}), expected its words as strings. Mend it, or take "
            "another."
        ) from error
    if joined != run:
        raise DataError(
            f"segmenter {name} cut {run[:20]!r} into words that begin {joined[:20]!r}, {len(joined)} characters where "
            f"{len(run)} were given; expected words that join up to the same. Mend it, or take another."
        )
    return words


def word_starts(text: str, segmenter: Segmenter = rjieba.cut) -> np.ndarray:
    """Returns uint8 flags (len(text),): 1 at the first character of each word, else 0.

    Each run of white space, line ends included, and each mark of punctuation counts as a word too, so that the
    first character always starts one.

    Args:
        segmenter: cuts runs of Han characters, and is given nothing else.
    """
    lengths = np.fromiter(map(len, _SPAN.findall(text)), dtype=np.int64)
    flags = np.zeros(len(text), dtype=np.uint8)
    flags[np.cumsum(lengths) - lengths] = 1
    _segment_han(text, flags, segmenter)
    return flags


def word_starts_of_rows(texts: Sequence[str], segmenter: Segmenter = rjieba.cut) -> np.ndarray:
    """Returns the flags of several texts, one behind the other, each as `word_starts` has them."""
    flags = word_starts("\n".join(texts), segmenter)  # a line feed separates words and Han runs
    ends = np.cumsum([len(text) for text in texts]) + np.arange(len(texts))
    rows_begin = np.concatenate([[0], ends[:-1] + 1])
    flags[rows_begin[rows_begin < ends]] = 1
    return np.delete(flags, ends[:-1])


def _segment_han(text: str, flags: np.ndarray, segmenter: Segmenter) -> None:
    """Replaces the flags of the Han characters by the starts of their words."""
    runs = [run.span() for run in _HAN_RUN.finditer(text)]
    if not runs:
        return
    lengths = [len(word) for start, end in runs for word in segmenter(text[start:end])]
    edges = np.zeros(len(text) + 1, dtype=np.int8)
    starts, ends = np.array(runs).T
    edges[starts], edges[ends] = 1, -1
    han = np.flatnonzero(np.cumsum(edges[:-1]))  # positions in the text of all the runs' characters
    flags[han] = 0
    flags[han[np.cumsum(lengths) - lengths]] = 1
