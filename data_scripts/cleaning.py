"""Cleaning of raw text, one rule at a time: the default takes nothing away that a reader could miss.

clean_text("caf\u0065\u0301\r\n")  # "café\n"
clean_text(text, Cleaning(strip_markup=True, unescape_entities=True))
dataset.map(clean_batch, batched=True)
"""

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ftfy import fix_encoding
from ftfy.badness import is_bad

from boustro.tokenization_boustro import repair_surrogates

from .errors import DataError
from .markup import strip_markup

_LINE_END = re.compile(r"\r\n?")
# Controls but tab, line feed, carriage return and next line, the byte order mark, word joiner and soft hyphen.
# Zero-width joiners, variation selectors and bidirectional marks carry meaning (emoji, Persian) and stay.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u2060\ufeff]")
# Those that part words: vertical tab, form feed, the separators of files, groups, records and units.
_BREAKS = {"\x0b": "\n", "\x0c": "\n", "\x1c": "\n", "\x1d": "\n", "\x1e": "\n", "\x1f": " "}
# Scripts without spaces (UAX 14, class SA), in which the zero-width space parts words: Thai, Lao, Burmese, Khmer, Tai.
_UNSPACED = r"\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
_ZERO_WIDTH_SPACES = re.compile(rf"(?<![{_UNSPACED}])\u200b+|\u200b+(?![{_UNSPACED}\u200b])")
_HAN = r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
_HAN_SIDE = rf"(?:{_HAN}|[\u3001\u3002\u3008-\u3011\uff01-\uff0f\uff1a-\uff1f\u2018\u2019\u201c\u201d])"
_SPACE_IN_HAN = re.compile(rf"(?<={_HAN})[^\S\n]+(?={_HAN_SIDE})|(?<={_HAN_SIDE})[^\S\n]+(?={_HAN})")
_SPACES_AT_LINE_END = re.compile(r"(?<![^\S\n])[^\S\n]++$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_WIDE_SPACES = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f]")
_FULL_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(94)}
_FULL_WIDTH_LETTERS = {wide: narrow for wide, narrow in _FULL_WIDTH.items() if chr(narrow).isalnum()}
_WIDTHS = {"letters": _FULL_WIDTH_LETTERS, "all": _FULL_WIDTH | {0x3000: 0x20}}
_OPENCC = {"simplified": "t2s", "traditional": "s2t"}


@dataclass(frozen=True)
class Cleaning:
    """Which rules run, in the order of the fields.

    Attributes:
        fix_mojibake: text decoded in the wrong encoding is put right (ftfy), a line at a time.
        unescape_entities: HTML entities become characters.
        unify_line_ends: CR LF and CR become LF.
        remove_controls: control and invisible characters go, but not joiners and variation selectors; form feeds and
            other separators become line ends or a blank, and zero-width spaces stay in Thai, Lao, Burmese and Khmer.
        strip_markup: tags, comments, scripts and styles go (see `markup`); tags of blocks leave a line end.
        han_script: "simplified" or "traditional" converts Han text (OpenCC, extra `data`).
        width: "letters" makes full-width letters and digits ASCII, "all" punctuation and the wide space too.
        join_han: spaces between Han characters go.
        tidy_spaces: spaces of odd widths become plain, those at line ends go, and of blank lines one stays.
        normalization: "NFC", "NFKC" or "none".
    """

    fix_mojibake: bool = True
    unescape_entities: bool = False
    unify_line_ends: bool = True
    remove_controls: bool = True
    strip_markup: bool = False
    han_script: Literal["keep", "simplified", "traditional"] = "keep"
    width: Literal["keep", "letters", "all"] = "keep"
    join_han: bool = False
    tidy_spaces: bool = False
    normalization: Literal["NFC", "NFKC", "none"] = "NFC"

    def steps(self) -> list[tuple[str, Callable[[str], str]]]:
        """The rules that run, by name."""
        rules = {
            "fix_mojibake": _fix_mojibake if self.fix_mojibake else None,
            "unescape_entities": html.unescape if self.unescape_entities else None,
            "unify_line_ends": _unify_line_ends if self.unify_line_ends else None,
            "remove_controls": _remove_controls if self.remove_controls else None,
            "strip_markup": strip_markup if self.strip_markup else None,
            "han_script": None if self.han_script == "keep" else opencc_converter(_OPENCC[self.han_script]),
            "width": None if self.width == "keep" else lambda text: text.translate(_WIDTHS[self.width]),
            "join_han": _join_han if self.join_han else None,
            "tidy_spaces": _tidy_spaces if self.tidy_spaces else None,
            "normalization": None
            if self.normalization == "none"
            else lambda text: unicodedata.normalize(self.normalization, text),
        }
        return [(name, rule) for name, rule in rules.items() if rule is not None]


VERBATIM = Cleaning(fix_mojibake=False, unify_line_ends=False, remove_controls=False, normalization="none")


def clean_text(text: str, rules: Cleaning | None = None) -> str:
    """Returns the text after the rules (default: those of `Cleaning()`), lone surrogates replaced in any case."""
    return _clean(text, (rules or Cleaning()).steps())[0]


def clean_batch(batch: dict, rules: Cleaning | None = None) -> dict:
    """For `datasets.map(batched=True)` on the column "text"; a missing value becomes "".

    Columns: "text", and "changes", the names of the rules that changed a row. A column "separator", what stands
    between two texts, is cleaned too.
    """
    steps = (rules or Cleaning()).steps()
    cleaned = [_clean(text or "", steps) for text in batch["text"]]
    columns = {"text": [text for text, _ in cleaned], "changes": [changed for _, changed in cleaned]}
    if "separator" in batch:
        columns["separator"] = [_clean(separator, steps)[0] for separator in batch["separator"]]
    return columns


def _clean(text: str, steps: list[tuple[str, Callable[[str], str]]]) -> tuple[str, list[str]]:
    """The text after the steps, and the names of those that changed it."""
    text, changed = repair_surrogates(text), []
    for name, rule in steps:
        before, text = text, rule(text)
        if text != before:
            changed.append(name)
    return text, changed


@cache
def opencc_converter(configuration: str) -> Callable[[str], str]:
    """The converter of OpenCC for a configuration such as "t2s".

    Raises:
        DataError: if OpenCC is not installed.
    """
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise DataError("han_script needs OpenCC, which is not installed: pip install 'boustro[data]'.") from error
    return OpenCC(configuration).convert


def _fix_mojibake(text: str) -> str:
    if text.isascii() or not is_bad(text):  # `is_bad` takes long, and ASCII cannot be bad
        return text
    return "\n".join(fix_encoding(line) if is_bad(line) else line for line in text.split("\n"))


def _unify_line_ends(text: str) -> str:
    return _LINE_END.sub("\n", text)


def _remove_controls(text: str) -> str:
    text = _UNWANTED.sub(lambda match: _BREAKS.get(match[0], ""), text)
    return _ZERO_WIDTH_SPACES.sub("", text) if "\u200b" in text else text


def _join_han(text: str) -> str:
    return _SPACE_IN_HAN.sub("", text)


def _tidy_spaces(text: str) -> str:
    return _BLANK_LINES.sub("\n\n", _SPACES_AT_LINE_END.sub("", _WIDE_SPACES.sub(" ", text)))
