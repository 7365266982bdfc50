"""Plain text in rows, read a piece at a time, so that a file may be larger than the memory."""

import re
from collections.abc import Iterable, Iterator
from typing import TextIO

SEPARATORS = {"line": "\n", "paragraph": "\n\n", "document": "\n\n"}  # what parts two rows of a stream at least
LARGEST_ROW = 1 << 20  # characters; a longer row is read in pieces
_BLOCK = 1 << 20
_ENDS = {
    "line": re.compile(r"\r?\n"),
    # blank lines, when they are over; white space before text belongs to it
    "paragraph": re.compile(r"\r?\n(?:[ \t\u3000]*\r?\n)+(?=[ \t\u3000]*[^ \t\u3000\r\n])"),
}
_LAST_ENDS = {
    "line": re.compile(r"(?:\r?\n)?\Z"),
    "paragraph": re.compile(r"(?:[ \t\u3000]*\r?\n)*\Z"),
    "document": re.compile(r"\Z"),
}

Row = tuple[str | None, str]  # a text, None for a missing value, and what stands between it and the next


def read_rows(file: TextIO, sample_by: str) -> Iterator[Row]:
    """Yields the rows of a text; all texts and separators one behind the other are the text.

    Args:
        file: opened with `newline=""`, so that line ends are as they are.
        sample_by: "line", "paragraph" (blank lines are between two) or "document" (the whole).
    """
    text, ends = "", _ENDS.get(sample_by)
    while block := file.read(_BLOCK):
        text, start = text + block, 0
        while ends and (end := ends.search(text, start)) and end.end() < len(text):
            yield from cut_row(text[start : end.start()], end.group())
            start = end.end()
        text = text[start:]
        while len(text) > LARGEST_ROW:
            place = _place_to_cut(text)
            yield text[:place], ""
            text = text[place:]
    if text:
        end = _LAST_ENDS[sample_by].search(text)
        yield from cut_row(text[: end.start()], end.group())


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
