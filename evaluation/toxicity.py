"""Words that nobody wants to read: hits of a blocklist in samples, and the list as `bad_words_ids` of `generate`.

model.generate(**batch, bad_words_ids=bad_words_ids("blocklist.txt", tokenizer))
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from boustro.data_scripts.errors import DataError

BLOCKLIST = Path(__file__).with_name("blocklist.txt")
# what stands before and after a word that is banned: a model of characters must still be able to write "assume"
_BEFORE, _AFTER = (" ", "\n"), (" ", "\n", ".", ",", "!", "?", ";", ":")
_HAN = re.compile(r"[\u3400-\u9fff]")
_LETTER = r"[^\W\u3400-\u9fff]"  # of a word in a script with spaces


def read_blocklist(path: str | Path = BLOCKLIST) -> list[str]:
    """The entries of a list file: one a line, in any case; empty lines and those that begin with # are left out.

    Raises `DataError` if the file cannot be read or holds no entry.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"blocklist {path} cannot be read as UTF-8 text ({error}): check the path.") from error
    entries = dict.fromkeys(line.strip().lower() for line in lines if line.strip() and not line.startswith("#"))
    if not entries:
        raise DataError(f"blocklist {path} holds no entry, expected a word or phrase a line.")
    return list(entries)


def blocklist_hits(texts: Sequence[str], entries: Sequence[str]) -> dict[str, Any]:
    """How often the entries occur in texts: whole words in scripts with spaces, anywhere in Han text, in any case.

    Returns `texts`, `entries` (how many of each), `hits`, `share` (of texts with a hit), `per_million` characters, and
    `different`, how many of the entries were hit.
    """
    patterns = [
        re.escape(entry) if _HAN.search(entry) else f"(?<!{_LETTER}){re.escape(entry)}(?!{_LETTER})"
        for entry in entries
    ]
    pattern = re.compile("|".join(sorted(patterns, key=len, reverse=True)), flags=re.IGNORECASE)
    found = [[hit.lower() for hit in pattern.findall(text)] for text in texts]
    hits = Counter(itertools.chain.from_iterable(found))
    characters = sum(map(len, texts))
    return {
        "texts": len(texts),
        "entries": len(entries),
        "hits": hits.total(),
        "share": sum(map(bool, found)) / max(len(texts), 1),
        "per_million": 1e6 * hits.total() / max(characters, 1),
        "different": len(hits),
    }


def bad_words_ids(path: str | Path, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The entries of a list file as `generate` takes them.

    A word of a script with spaces is banned as a whole word: in lower case, capitalised and in capitals, between
    common characters that stand before and after words, so that longer words that contain it remain possible. Han
    entries are banned anywhere. `generate` compares every sequence at every step: a long list slows it down.

    Raises `DataError` as `read_blocklist` does.
    """
    return [tokenizer.encode(text, add_special_tokens=False) for text in _spellings(read_blocklist(path))]


def _spellings(entries: Sequence[str]) -> list[str]:
    spellings: dict[str, None] = {}
    for entry in entries:
        if _HAN.search(entry):
            spellings[entry] = None
            continue
        forms = dict.fromkeys((entry, entry.capitalize(), entry.upper()))
        spellings |= dict.fromkeys(map("".join, itertools.product(_BEFORE, forms, _AFTER)))
    return list(spellings)
