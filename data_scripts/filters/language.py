"""Rows in other languages than those asked for."""

import re
from dataclasses import dataclass
from functools import cache

from ..errors import DataError

_SAMPLE = 1_000  # characters that are looked at: identification costs time by the character
_LINES = re.compile(r"\s+")


@dataclass(frozen=True)
class Language:
    """Drops a text ("language") if py3langid is sure that it is in none of `languages` (ISO 639-1 codes).

    py3langid is a maintained form of langid.py (Lui & Baldwin 2012) with its model in the wheel and numpy as its only
    dependency; docs/data.md has it beside others.

    Attributes:
        confidence: probability of another language from which it is sure. Mark-up, tables and lists of names look
            like a bit of everything and are kept. FineWeb (Penedo et al. 2024) keeps what is English with 0.65.
        least: shorter texts are kept: they say too little.

    Raises:
        DataError: if py3langid is not installed, or does not know a language.
    """

    languages: tuple[str, ...]
    confidence: float = 0.5
    least: int = 10

    def __post_init__(self):
        known = set(_identifier().nb_classes)
        for language in self.languages:
            if language not in known:
                raise DataError(f"languages: {language!r} is not known, expected some of {', '.join(sorted(known))}.")

    def __call__(self, text: str) -> str | None:
        sample = _LINES.sub(" ", text[:_SAMPLE]).strip()
        if len(sample) < self.least:
            return None
        language, probability = _identifier().classify(sample)
        return None if language in self.languages or probability < self.confidence else "language"


@cache
def _identifier():
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise DataError("languages needs py3langid, which is not installed: pip install 'boustro[data]'.") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
