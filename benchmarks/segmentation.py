"""Word segmentation of Chinese beside a treebank: precision, recall and F1 of words, and characters a second.

    python -m benchmarks.segmentation --data zh_gsdsimp-ud-dev.conllu

A word counts as found if both its ends are those of a word of the treebank (the measure of the SIGHAN bakeoffs,
Emerson 2005). `boustro` is what data preparation uses (Unicode word boundaries, rjieba within Han); `jieba` the
original package, with and without its hidden Markov model; `characters` takes each Han character for a word.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jieba
import numpy as np
import regex

from benchmarks.common import print_json, print_table
from boustro.data_scripts.segmentation import word_starts

_CHARACTERS = regex.compile(r"\p{Han}|\P{Han}+")


def read_treebank(path: str) -> list[list[str]]:
    """The words of every sentence of a CoNLL-U file; ranges and empty nodes are left out."""
    sentences = []
    for block in Path(path).read_text(encoding="utf-8").strip().split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if not line.startswith("#")]
        sentences.append([row[1] for row in rows if row[0].isdigit()])
    return sentences


def spans(words: Iterable[str]) -> set[tuple[int, int]]:
    """(start, end) of each word in their concatenation."""
    ends = np.cumsum([len(word) for word in words])
    return set(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def by_word_starts(text: str) -> list[str]:
    """The words between the starts that data preparation finds."""
    starts = np.flatnonzero(word_starts(text)).tolist()
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def measure(segment: Callable[[str], Iterable[str]], sentences: list[list[str]]) -> dict[str, float]:
    """Precision, recall and F1 over all sentences, and characters a second."""
    texts = ["".join(words) for words in sentences]
    segment(texts[0])
    started = time.perf_counter()
    found = [list(segment(text)) for text in texts]
    seconds = time.perf_counter() - started
    pairs = [(spans(words), spans(own)) for words, own in zip(sentences, found, strict=True)]
    right = sum(len(gold & own) for gold, own in pairs)
    precision, recall = right / sum(len(own) for _, own in pairs), right / sum(len(gold) for gold, _ in pairs)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "characters/s": round(sum(map(len, texts)) / seconds),
    }


def main() -> None:
    """Prints a row for each segmenter, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segmentation", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="A treebank in CoNLL-U.")
    options = parser.parse_args()
    sentences = read_treebank(options.data)
    jieba.setLogLevel("WARNING")
    segmenters = {
        "boustro": by_word_starts,
        "jieba": jieba.lcut,
        "jieba, no HMM": lambda text: jieba.lcut(text, HMM=False),
        "characters": _CHARACTERS.findall,
    }
    rows = {name: measure(segment, sentences) for name, segment in segmenters.items()}
    print_table(rows)
    print_json(rows, sentences=len(sentences), words=sum(map(len, sentences)))


if __name__ == "__main__":
    main()
