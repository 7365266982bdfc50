"""Rules by which a row of text is kept or dropped.

A rule is a pure function of a cleaned text: None keeps it, a string is the reason for dropping it. Exact copies
are found by fingerprint, after the rules, so that the result does not depend on the number of processes.
"""

import hashlib
from collections import Counter

from datasets import Dataset

from .mapping import apply

EMPTY = "empty"
TOO_SHORT = "too_short"
DUPLICATE = "duplicate"
REASONS = (EMPTY, TOO_SHORT, DUPLICATE)


def empty(text: str) -> str | None:
    """Drops a text of nothing but white space."""
    return None if text.strip() else EMPTY


def too_short(text: str, min_characters: int) -> str | None:
    """Drops a text of fewer than `min_characters` characters, white space at its ends not counted."""
    return None if len(text.strip()) >= min_characters else TOO_SHORT


def fingerprint(text: str) -> bytes:
    """16 bytes that are equal for equal texts (and for others with a chance of 2**-128)."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def judge_batch(batch: dict, min_characters: int) -> dict:
    """For `datasets.map(batched=True)`: from "text" the columns "reason" ("" keeps) and "fingerprint"."""
    texts = batch["text"]
    return {
        "reason": [empty(text) or too_short(text, min_characters) or "" for text in texts],
        "fingerprint": [fingerprint(text) for text in texts],
    }


def filter_rows(
    dataset: Dataset, *, min_characters: int, deduplicate: bool, num_proc: int = 1
) -> tuple[Dataset, dict[str, int]]:
    """Drops the rows that a rule names; of exact copies the first one stays.

    Args:
        dataset: cleaned rows with a column "text".

    Returns:
        The rows that are left, in their order, and the number of dropped rows for each of `REASONS`.
    """
    judged = apply(
        dataset,
        judge_batch,
        description="Filtering",
        num_proc=num_proc,
        remove_columns=["text"],
        fn_kwargs={"min_characters": min_characters},
    )
    kept, drops, seen = [], Counter(), set()
    for row, (reason, mark) in enumerate(zip(judged["reason"][:], judged["fingerprint"][:], strict=True)):
        if not reason and deduplicate and mark in seen:
            reason = DUPLICATE
        if reason:
            drops[reason] += 1
        else:
            seen.add(mark)
            kept.append(row)
    return dataset.select(kept), {reason: drops[reason] for reason in REASONS}
