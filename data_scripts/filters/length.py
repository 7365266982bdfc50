"""Rows that are empty or too short."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Drops a text of nothing but white space ("empty"), or of fewer characters than asked for ("too_short").

    White space at the ends is not counted. Gopher keeps documents of 50 to 100,000 words (Rae et al. 2021, table A1);
    a name or a line of verse is a document here, so that by default only empty ones go.
    """

    min_characters: int = 1

    def __call__(self, text: str) -> str | None:
        length = len(text.strip())
        if length == 0:
            return "empty"
        if length < self.min_characters:
            return "too_short"
        return None
