"""Precision and recall of redaction on a labelled set, by kind.

    python -m benchmarks.redaction
    python -m benchmarks.redaction --data tests/data_scripts/redaction_set.txt --errors

The set, written for this purpose, is one text a line with [[kind|text]] around what should be found (⏎ stands for a
line end); its last third is numbers that look like something and are nothing. A finding is right if kind, start and
end are those of a label.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from benchmarks.common import print_json, print_table
from boustro.data_scripts.redaction import KINDS, Finding, find

SET = Path(__file__).parent.parent / "tests" / "data_scripts" / "redaction_set.txt"
_LABEL = re.compile(r"\[\[(\w+)\|(.*?)\]\]")


def read_set(path: Path) -> list[tuple[str, list[Finding]]]:
    """Texts without their marks, and the labels of each."""
    texts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        text, labels, done = "", [], 0
        for match in _LABEL.finditer(line):
            text += line[done : match.start()]
            labels.append(Finding(match[1], len(text), len(text) + len(match[2])))
            text, done = text + match[2], match.end()
        texts.append(((text + line[done:]).replace("⏎", "\n"), labels))
    return texts


def measure(texts: list[tuple[str, list[Finding]]]) -> dict[str, dict[str, float]]:
    """For each kind and for all: labels, precision and recall."""
    right, found, labelled = Counter(), Counter(), Counter()
    for text, labels in texts:
        findings = find(text)
        found.update(finding.kind for finding in findings)
        labelled.update(label.kind for label in labels)
        right.update(finding.kind for finding in set(findings) & set(labels))
    counts = {kind: (right[kind], found[kind], labelled[kind]) for kind in KINDS}
    counts["all"] = (right.total(), found.total(), labelled.total())
    return {
        kind: {"labels": labels, "precision": hits / max(findings, 1), "recall": hits / max(labels, 1)}
        for kind, (hits, findings, labels) in counts.items()
    }


def main() -> None:
    """Prints a row for each kind, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redaction", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SET, help="Labelled texts.")
    parser.add_argument("--errors", action="store_true", help="Print what was missed and what was wrong.")
    options = parser.parse_args()
    texts = read_set(options.data)
    for text, labels in texts if options.errors else ():
        for finding in sorted(set(find(text)) ^ set(labels), key=lambda one: one.start):
            print("missed:" if finding in labels else "wrong: ", finding.kind, text[finding.start : finding.end])
    rows = measure(texts)
    print_table(rows)
    print_json(rows, texts=len(texts))


if __name__ == "__main__":
    main()
