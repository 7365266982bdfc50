"""How many planted copies deduplication finds, and how many rows it takes for copies that are none.

    python -m benchmarks.duplicates --english tiny_stories.txt wiki.xml --chinese 红楼梦.txt luxun.txt

For each language 1,000 documents: 500 that stand alone, 100 with an exact copy, and 150 with a copy in which a
share (`--edited`) of the characters were replaced, deleted or followed by another. They are cut from the texts,
disjoint, of 200 to 2,000 characters.
`short` are 1,000 lines of 10 to 190 characters of which no two are copies, 500 of them sentences of the texts, no two
equal, the rest headings and notes that differ by a running number alone.
`recall` and `precision` count pairs of a copy and what it was copied from that ended up in one group; `left` counts
pairs of copies with one in training and one in validation after the whole preparation; `short joined` counts pairs of
short lines in one group.
"""

import argparse
import json
import re
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import print_json, print_table
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.cleaning import clean_text
from boustro.data_scripts.deduplication import (
    PERMUTATIONS,
    THRESHOLD,
    fingerprint,
    group_exact,
    group_near,
    mark_batch,
    normal_form,
)
from boustro.data_scripts.prepare import prepare

SENTENCES, NUMBERED = 500, 250  # short lines; the latter for each of the two patterns
PATTERNS = {
    "english": ("Chapter {} of the book", "He was born in {} and lived in a small house near the river all his life."),
    "chinese": ("全书目录第{}章之标题", "他生于{}年，一生住在河边的一间小屋里，每天清早出门打鱼，傍晚才回来。"),
}
_SENTENCE = re.compile(r"[^.!?．。！？\n]+[.!?．。！？]+[\"'”’]?")
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


def short_lines(paths: list[str], language: str, rng: np.random.Generator) -> list[str]:
    """1,000 different lines of 10 to 190 characters, none of which is a copy of another."""
    text = "\n".join(Path(path).read_text(encoding="utf-8") for path in paths)
    sentences = {normal_form(sentence): None for sentence in _SENTENCE.findall(text)}  # a dict keeps the order
    fitting = [sentence for sentence in sentences if 10 <= len(sentence) <= 190]
    chosen = [fitting[place] for place in rng.choice(len(fitting), SENTENCES, replace=False)]
    return chosen + [pattern.format(1_500 + number) for pattern in PATTERNS[language] for number in range(NUMBERED)]


def group(texts: list[str], threshold: float) -> np.ndarray:
    """(N,) the group of each text, as `group_near` numbers them."""
    marks = mark_batch({"text": texts})
    signatures = np.frombuffer(b"".join(marks["signature"]), dtype=np.uint32).reshape(-1, PERMUTATIONS)
    exact = group_exact(np.array(marks["fingerprint"]))
    return group_near(signatures, np.array(marks["length"]), exact, threshold)


def pairs(groups: np.ndarray) -> set[tuple[int, int]]:
    """All pairs of rows in one group."""
    found = set()
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        found |= {(int(one), int(other)) for one in members for other in members if one < other}
    return found


def measure(paths: list[str], language: str, share: float, threshold: float, seed: int) -> dict[str, float]:
    """Recall and precision of pairs, pairs that are left between training and validation, short lines joined."""
    rng = np.random.default_rng(seed)
    texts, origins = plant(cut_documents(paths, UNRELATED + EXACT + EDITED, rng), share, rng)
    planted, found = pairs(origins), pairs(group(texts, threshold))
    short = short_lines(paths, language, rng)
    return {
        "documents": len(texts),
        "recall": len(planted & found) / len(planted),
        "precision": len(planted & found) / max(1, len(found)),
        "left": _left_between_splits(texts, origins, threshold),
        "short": len(short),
        "short joined": len(pairs(group(short, threshold))),
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
        f"{language}, seed {seed}": measure(
            getattr(options, language), language, options.edited, options.threshold, seed
        )
        for language in ("english", "chinese")
        for seed in range(options.seeds)
    }
    print_table(rows)
    print_json(rows, edited=options.edited, threshold=options.threshold)


if __name__ == "__main__":
    main()
