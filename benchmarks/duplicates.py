"""How many planted copies deduplication finds, and how many rows it takes for copies that are none.

    python -m benchmarks.duplicates --english tiny_stories.txt wiki.xml --chinese 红楼梦.txt luxun.txt

For each language 1,000 documents: 500 that stand alone, 100 with an exact copy, and 150 with a copy in which a
share (`--edited`) of the characters were replaced, deleted or followed by another. They are cut from the texts,
disjoint, of 200 to 2,000 characters.
`recall` and `precision` count pairs of a copy and what it was copied from that ended up in one group; `left` counts
pairs of copies with one in training and one in validation after the whole preparation.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import print_json, print_table
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.cleaning import clean_text
from boustro.data_scripts.deduplication import THRESHOLD, fingerprint, group_exact, group_near, signatures
from boustro.data_scripts.prepare import prepare

UNRELATED, EXACT, EDITED = 500, 100, 150  # documents, of the last two with one copy each: 1,000 in all
SHORTEST, LONGEST = 200, 2_000


def cut_documents(paths: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Disjoint stretches from all over the texts, no two of them equal."""
    text = "\n".join(Path(path).read_text(encoding="utf-8") for path in paths)
    lengths = rng.integers(SHORTEST, LONGEST, count)
    gap = (len(text) - lengths.sum()) // count
    if gap < 0:
        raise SystemExit(f"the texts have {len(text)} characters, {lengths.sum()} are needed: give more text.")
    starts = np.cumsum(lengths + gap) - lengths - gap
    return [text[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def edit(text: str, share: float, rng: np.random.Generator) -> str:
    """The text with a share of its characters replaced, deleted or followed by another from the same text."""
    characters = list(text)
    for place in rng.choice(len(characters), round(share * len(characters)), replace=False):
        other = text[rng.integers(len(text))]
        characters[place] = (other, "", characters[place] + other)[rng.integers(3)]
    return "".join(characters)


def plant(documents: list[str], share: float, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """1,000 documents in random order, and the number of the original of each."""
    texts = list(documents)
    origins = list(range(len(documents)))
    for number in range(EXACT + EDITED):
        texts.append(documents[number] if number < EXACT else edit(documents[number], share, rng))
        origins.append(number)
    order = rng.permutation(len(texts))
    return [texts[place] for place in order], np.array(origins)[order]


def pairs(groups: np.ndarray) -> set[tuple[int, int]]:
    """All pairs of rows in one group."""
    found = set()
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        found |= {(int(one), int(other)) for one in members for other in members if one < other}
    return found


def measure(paths: list[str], share: float, threshold: float, seed: int) -> dict[str, float]:
    """Recall and precision of pairs, and pairs that are left between training and validation."""
    rng = np.random.default_rng(seed)
    texts, origins = plant(cut_documents(paths, UNRELATED + EXACT + EDITED, rng), share, rng)
    exact = group_exact(np.array([fingerprint(text) for text in texts]))
    groups = group_near(signatures(texts), exact, threshold)
    planted, found = pairs(origins), pairs(groups)
    return {
        "documents": len(texts),
        "recall": len(planted & found) / len(planted),
        "precision": len(planted & found) / max(1, len(found)),
        "left": _left_between_splits(texts, origins, threshold),
    }


def _left_between_splits(texts: list[str], origins: np.ndarray, threshold: float) -> int:
    """Pairs of copies on both sides after `prepare` has held a fifth of the documents out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "planted.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        options = {"near_duplicates": True, "near_threshold": threshold, "validation_fraction": 0.2}
        data = prepare(DataArguments(train_file=[str(path)], input_mode="documents", **options))
    origin = {fingerprint(clean_text(text)): int(number) for text, number in zip(texts, origins, strict=True)}
    sides = [
        [
            origin[fingerprint(data.tokenizer.decode(part.ids[start:stop].tolist()))]
            for start, stop in zip(part.offsets[:-1], part.offsets[1:], strict=True)
        ]
        for part in (data.train, data.validation)
    ]
    return len(set(sides[0]) & set(sides[1]))


def main() -> None:
    """Prints a row for each language and seed, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--english", nargs="+", required=True, help="Text files in English.")
    parser.add_argument("--chinese", nargs="+", required=True, help="Text files in Chinese.")
    parser.add_argument("--edited", type=float, default=0.05, help="Share of the characters that are edited.")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="Least similarity of near copies.")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = {
        f"{language}, seed {seed}": measure(getattr(options, language), options.edited, options.threshold, seed)
        for language in ("english", "chinese")
        for seed in range(options.seeds)
    }
    print_table(rows)
    print_json(rows, edited=options.edited, threshold=options.threshold)


if __name__ == "__main__":
    main()
