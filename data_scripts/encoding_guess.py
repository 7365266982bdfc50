"""Guesses the encoding of bytes that are not UTF-8, to tell the user what to convert from.

A guess by letter frequencies: right for a paragraph of the common languages, a hint for a few words.
"""

import codecs
from collections.abc import Callable

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# The most frequent characters of what is written in each. Where two fit equally well, the first one is taken.
_JAPANESE = "のにはをたがでしてとれいる、。"
_MULTIBYTE = {
    "GB18030": "的一是不了人我在有他这来们中大你好，。、",
    "BIG5": "的一是不了人我在有他這來們中大你好，。、",
    "SHIFT_JIS": _JAPANESE,
    "EUC-JP": _JAPANESE,
    "EUC-KR": "이다는을의에가고하로은",
    "CP1251": "оеаинтсрвл",
}
_WIDE = dict.fromkeys(("UTF-16LE", "UTF-16BE"), " \n\r" + "".join(_MULTIBYTE.values()))
_EAST_ASIAN = ((0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFFEF))
_LEAST_SCORE = 0.09  # nine in ten characters East Asian, or every tenth a frequent one


def guess_encoding(sample: bytes) -> str | None:
    """Returns a name that iconv and Python know, or None if the bytes look like no text.

    Args:
        sample: bytes that are not UTF-8 or hold NUL; it begins with a whole character and may end within one.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return name
    if b"\0" in sample:
        return _best({encoding: _score_wide(sample, encoding) for encoding in _WIDE})
    if _high_bytes_stand_alone(sample):
        return "CP1252"
    return _best({encoding: _score_multibyte(sample, encoding) for encoding in _MULTIBYTE})


def _best(scores: dict[str, float]) -> str | None:
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] >= _LEAST_SCORE else None


def _decode(sample: bytes, encoding: str) -> str:
    """The text of the sample, "" if it is not in this encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return ""


def _score_wide(sample: bytes, encoding: str) -> float:
    text = _decode(sample, encoding)
    return 0.0 if "\0" in text else _share(text, _WIDE[encoding].__contains__)


def _score_multibyte(sample: bytes, encoding: str) -> float:
    text = "".join(character for character in _decode(sample, encoding) if character > "\x7f")
    return _share(text, _MULTIBYTE[encoding].__contains__) + 0.1 * _share(text, _is_east_asian)


def _share(text: str, holds: Callable[[str], bool]) -> float:
    return sum(map(holds, text)) / max(1, len(text))


def _is_east_asian(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _EAST_ASIAN)


def _high_bytes_stand_alone(sample: bytes) -> bool:
    """True where bytes over 0x7F are mostly single ones among ASCII, as in Western European text."""
    high = [byte > 0x7F for byte in sample]
    alone = [
        is_high and not before and not after
        for before, is_high, after in zip([False, *high], high, [*high[1:], False], strict=False)
    ]
    return 2 * sum(alone) > sum(high)
