"""Canaries: made-up secrets in the training text, by which it is measured afterwards what a model memorises.

Carlini et al. 2019, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks", section 4.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .shards import Shard, write_shard, writing_errors

DIGITS = 9  # of a secret: 10^9 possible ones
LATIN, HAN = "The secret number is {}.", "秘密号码是{}。"
_LOOKED_AT = 100_000  # characters that decide between the two


@dataclass(frozen=True)
class Canary:
    """A secret in its sentence.

    Attributes:
        form: the sentence, with {} for the secret.
        secret: `DIGITS` digits.
        repeats: how often it was planted.
    """

    form: str
    secret: str
    repeats: int

    @property
    def text(self) -> str:
        return self.form.format(self.secret)


def plant(
    shards: Sequence[Shard], repeats: Sequence[int], input_mode: str, seed: int, folder: Path
) -> tuple[list[Shard], list[dict]]:
    """Plants a canary of its own for each of `repeats`, that many times, in texts with the columns of `ROWS`.

    In a stream a canary is a line of its own between two lines chosen at random (or, in a text of a single line,
    between two characters); among documents it is a document at the end. Returns the shards, of which those that
    changed are new ones in `folder`, and the canaries as plain dicts; the same texts, numbers and seed give the same.
    """
    if not repeats:
        return list(shards), []
    rng = np.random.default_rng([seed, DIGITS])
    form = HAN if _is_han(_texts(shards[0])) else LATIN
    secrets = draw_secrets(len(repeats), rng)
    canaries = [Canary(form, secret, count) for secret, count in zip(secrets, repeats, strict=True)]
    found = [asdict(canary) for canary in canaries]
    planted = [canary.text for canary in canaries for _ in range(canary.repeats)]
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if input_mode == "documents":
            return [*shards, write_shard([(text, "") for text in planted], folder / "documents.arrow")], found
        return _plant_lines(shards, planted, rng, folder), found


def _plant_lines(shards: Sequence[Shard], planted: list[str], rng: np.random.Generator, folder: Path) -> list[Shard]:
    sizes = np.array([sum(map(len, _texts(shard))) for shard in shards])
    homes = rng.choice(len(shards), size=len(planted), p=sizes / sizes.sum())
    result = list(shards)
    for number in np.unique(homes):
        lines = [planted[i] for i in np.flatnonzero(homes == number)]
        rows = [(text, "") for text in _insert_lines(_texts(shards[number]), lines, rng)]
        result[number] = write_shard(rows, folder / f"{number:05d}.arrow")
    return result


def _texts(shard: Shard) -> list[str]:
    """The rows as they stand in a stream, each with its separator."""
    table = shard.open()[:]
    return [text + separator for text, separator in zip(table["text"], table["separator"], strict=True)]


def draw_secrets(count: int, rng: np.random.Generator) -> list[str]:
    """`count` different strings of `DIGITS` digits, all equally likely."""
    numbers = dict.fromkeys(int(number) for number in rng.integers(10**DIGITS, size=2 * count))
    return [f"{number:0{DIGITS}}" for number in list(numbers)[:count]]


def _insert_lines(texts: list[str], lines: list[str], rng: np.random.Generator) -> list[str]:
    """The texts with `lines` put in after line ends chosen at random among those of all texts."""
    starts = [
        (row, place + 1) for row, text in enumerate(texts) for place, character in enumerate(text) if character == "\n"
    ]
    starts = starts or [(row, place) for row, text in enumerate(texts) for place in range(len(text))]
    chosen = sorted((starts[rng.integers(len(starts))], line) for line in lines)
    pieces = [[] for _ in texts]
    done = [0] * len(texts)
    for (row, place), line in chosen:
        pieces[row] += [texts[row][done[row] : place], f"{line}\n"]
        done[row] = place
    return ["".join([*parts, text[end:]]) for parts, text, end in zip(pieces, texts, done, strict=True)]


def _is_han(texts: list[str]) -> bool:
    """Whether most of the letters at the beginning of the texts are Han."""
    letters = [character for text in texts[:1000] for character in text[:_LOOKED_AT] if character.isalpha()]
    han = sum("\u4e00" <= character <= "\u9fff" for character in letters[:_LOOKED_AT])
    return 2 * han > len(letters[:_LOOKED_AT])
