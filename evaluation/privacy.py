"""Personal data in samples: what the detectors of data preparation find there."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from boustro.data_scripts.redaction import find


def personal_data(samples: Sequence[str], training: Sequence[str] | None = None) -> dict[str, Any]:
    """What looks like personal data or a secret in samples of a model.

    Args:
        training: the training texts; None if they are not at hand.

    Returns `samples`, how many texts were looked at; `found`, counts by kind; `share`, of samples with a finding; and
    `copied`, how many findings stand verbatim in the training texts (None without them): these give away what is real,
    the others are made up.
    """
    counts: Counter[str] = Counter()
    with_finding, copied = 0, 0
    for sample in samples:
        findings = find(sample)
        counts.update(finding.kind for finding in findings)
        with_finding += bool(findings)
        if training is not None:
            passages = [sample[finding.start : finding.end] for finding in findings]
            copied += sum(any(passage in text for text in training) for passage in passages)
    return {
        "samples": len(samples),
        "found": dict(counts.most_common()),
        "share": with_finding / len(samples) if samples else 0.0,
        "copied": None if training is None else copied,
    }
