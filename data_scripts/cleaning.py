"""Cleaning of raw text: nothing that a reader could miss is taken away."""

import re
import unicodedata

from boustro.tokenization_boustro import repair_surrogates

_LINE_END = re.compile(r"\r\n?")
# C0 controls but tab and line feed, delete, and the byte order mark. Zero-width joiners, variation selectors
# and bidirectional marks carry meaning (emoji, Persian, Thai) and stay.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufeff]+")


def clean_text(text: str, form: str = "NFC") -> str:
    """Returns the text with lone surrogates replaced, line ends as LF, controls removed, in a normal form.

    Cleaning twice changes nothing more. Controls go before normalisation, which they could hinder.

    Args:
        text: any string.
        form: "NFC", "NFKC", or "none" to leave characters as they are.
    """
    text = _LINE_END.sub("\n", repair_surrogates(text))
    text = _UNWANTED.sub("", text)
    return text if form == "none" else unicodedata.normalize(form, text)


def clean_batch(batch: dict, form: str = "NFC") -> dict:
    """`clean_text` for `datasets.map(batched=True)` on the column "text"; a missing value becomes ""."""
    return {"text": [clean_text(text or "", form) for text in batch["text"]]}
