"""Plain text in rows, read a piece at a time, so that a file may be larger than the memory."""

import re
from collections.abc import Iterable, Iterator
from typing import TextIO

SEPARATORS = {"line": "\n", "paragraph": "\n\n", "document": "\n\n"}  # what parts two rows of a stream at least
LARGEST_ROW = 1 << 20  # characters; a longer row is read in pieces
_BLOCK = 1 << 20
_BLANK = " \t\f\v\u00a0\u3000"
_LINE_END = r"(?>\r\n|\n|\r)"
_ENDS = {
    "line": re.compile(_LINE_END),
    "paragraph": re.compile(rf"{_LINE_END}(?:[{_BLANK}]*+{_LINE_END})++"),  # white space before text belongs to it
}
_LAST_LINE_END = re.compile(rf"{_LINE_END}?\Z")
_BLANKS = re.compile(rf"[{_BLANK}]*+")
# What is not parted, with its end and its greatest length: private keys, which are looked for in whole, and what
# mark-up hides.
_KEYS = ((re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"), re.compile("-----END"), 20_000),)
_LONGEST_HIDDEN = LARGEST_ROW // 2
_HIDDEN = (
    (re.compile("<!--"), re.compile("-->"), _LONGEST_HIDDEN),
    (re.compile(r"<script\b", re.IGNORECASE), re.compile("</script", re.IGNORECASE), _LONGEST_HIDDEN),
    (re.compile(r"<style\b", re.IGNORECASE), re.compile("</style", re.IGNORECASE), _LONGEST_HIDDEN),
)

Row = tuple[str | None, str]  # a text, None for a missing value, and what stands between it and the next


def read_rows(file: TextIO, sample_by: str, markup: bool = False) -> Iterator[Row]:
    """Yields the rows of a text; all texts and separators one behind the other are the text.

    Args:
        file: opened with `newline=""`, so that line ends are as they are.
        sample_by: "line", "paragraph" (blank lines are between two) or "document" (the whole). A private key of at
            most 20,000 characters is not parted.
        markup: nor are comments, scripts and styles of HTML.
    """
    text, over, whole = "", False, _KEYS + (_HIDDEN if markup else ())
    while not over:
        block = file.read(_BLOCK)
        over = not block
        text, start, place = text + block, 0, 0
        while end := _next_end(text, place, sample_by):
            place = _closed_at(text, place, end.start(), whole, over)
            if place is None:
                break  # that is seen when more has been read
            if place == end.start():
                yield from cut_row(text[start:place], end.group())
                start = place = end.end()
        text = text[start:]
        while len(text) > LARGEST_ROW:
            place = _place_to_cut(text)
            yield text[:place], ""
            text = text[place:]
    if text:
        place = _last_end(text, sample_by)
        yield from cut_row(text[:place], text[place:])


def _next_end(text: str, place: int, sample_by: str) -> re.Match | None:
    """The next end of a row from a place on, if something comes after it."""
    if sample_by not in _ENDS:
        return None
    end = _ENDS[sample_by].search(text, place)
    if end is None:
        return None
    after = end.end() if sample_by == "line" else _BLANKS.match(text, end.end()).end()
    return end if after < len(text) else None


def _closed_at(text: str, start: int, end: int, whole: tuple, over: bool) -> int | None:
    """`end`, or where what is open there is closed; None if that cannot be told before more is read."""
    for opening, closing, longest in whole:
        place = start
        while opened := opening.search(text, place, end):
            limit = opened.end() + longest
            closed = closing.search(text, opened.end(), limit)
            if closed is None and not over and len(text) < limit:
                return None
            if closed is not None and closed.start() > end:
                return closed.end()
            place = opened.end() if closed is None else closed.end()
    return end


def _last_end(text: str, sample_by: str) -> int:
    """Where the last row ends and the separator begins."""
    if sample_by == "document":
        return len(text)
    if sample_by == "line":
        return _LAST_LINE_END.search(text, max(len(text) - 2, 0)).start()
    end = len(text.rstrip(_BLANK + "\r\n"))
    return end if text[-1] in "\r\n" else len(text)


def cut_row(text: str | None, separator: str) -> Iterator[Row]:
    """The row, in pieces if it is longer than `LARGEST_ROW`, cut at line ends where there are some."""
    while text is not None and len(text) > LARGEST_ROW:
        place = _place_to_cut(text)
        yield text[:place], ""
        text = text[place:]
    yield text, separator


def separate(rows: Iterable[Row], separator: str) -> Iterator[Row]:
    """The rows with at least `separator` after the last one, line feeds of its text counted."""
    last = None
    for row in rows:
        if last is not None:
            yield last
        last = row
    if last is not None:
        text, end = last
        tail = (text or "") + end
        present = len(tail) - len(tail.rstrip("\r\n"))
        yield text, end + separator[present:]


def _place_to_cut(text: str) -> int:
    place = text.rfind("\n", 0, LARGEST_ROW) + 1 or LARGEST_ROW
    return place - 1 if text[place - 1] == "\r" else place  # a CR LF stays whole
