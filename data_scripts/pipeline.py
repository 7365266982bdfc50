"""The steps from raw to encoded text, in order, each a folder of shards (see `shards`):

read → clean → redact → judge (rules, fingerprints, signatures) → group copies → split → plant canaries → count
characters → encode

What a step needs of all rows at once are a few numbers a row; text is only ever held a shard at a time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from boustro.tokenization_boustro import BoustroTokenizer

from .arguments import DataArguments
from .canaries import plant
from .cleaning import Cleaning, clean_batch
from .deduplication import PERMUTATIONS, group_exact, group_near, mark_batch
from .encoding import CharacterEncoder, encoded_features
from .errors import DataError
from .filters import Rule, judge
from .redaction import redact_batch
from .segmentation import segmenter_code
from .shards import ROWS, Shard, map_shards, numbers, step_key, write_rows, write_shard, writing_errors
from .sources import Source, open_files, open_source
from .splits import choose_documents, stream_cuts

SPLITS = ("train", "validation", "test")
_SPLIT_OPTIONS = (
    "deduplicate",
    "near_duplicates",
    "near_threshold",
    "validation_fraction",
    "test_fraction",
    "input_mode",
)
# Why a row is dropped; what judges all rows at once comes last. An index into this is a row's verdict.
KEPT, PERSONAL_DATA, DUPLICATE, NEAR_DUPLICATE, HELD_OUT = (
    "",
    "personal_data",
    "duplicate",
    "near_duplicate",
    "held_out",
)
REASONS = (
    *(KEPT, "empty", "too_short", "symbols", "digits", "few_letters", "repeated_lines", "repeated_ngrams"),
    *("boilerplate", "language", "blocklist", PERSONAL_DATA, DUPLICATE, NEAR_DUPLICATE, HELD_OUT),
)
CLEANED = Features({**ROWS, "changes": List(Value("string")), "raw_characters": Value("int32")})
REDACTED = Features({**ROWS, "redactions": List(Value("string"))})
JUDGED = Features(
    {
        "verdict": Value("uint8"),
        "characters": Value("int32"),  # of the text
        "stretch": Value("int32"),  # of text and separator, what a row takes of a stream
        "fingerprint": Value("int64"),
    }
)
SIGNED = Features({**JUDGED, "signature": Value("binary"), "length": Value("int32")})
COUNTED = Features({"character": Value("uint32"), "count": Value("int64")})


@dataclass(frozen=True)
class Part:
    """The rows of one source on their way.

    Attributes:
        key: of the last step that text went through.
        cleaned: shards with "text", "separator", "changes", "raw_characters".
        texts: shards with the text as it will be encoded.
        judged: shards with the columns of `JUDGED` or `SIGNED`.
        verdicts: (R,) uint8 index into `REASONS`.
        groups: (R,) int64, equal for copies; −1 for rows that a rule drops.
    """

    source: Source
    key: str
    cleaned: list[Shard]
    texts: list[Shard]
    judged: list[Shard]
    verdicts: np.ndarray
    groups: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """(R,) bool."""
        return self.verdicts == 0


@dataclass(frozen=True)
class Result:
    """What came out of the pipeline.

    Attributes:
        key: of everything.
        parts: the training source, and that of `validation_file`.
        chosen: the shards of each split as they were encoded; counts: its characters (`Counter`).
        encoded: the shards of each split with "text", "input_ids", "word_starts" and counts.
        canaries: what was planted in the training split, see `canaries.plant`.
    """

    key: str
    parts: dict[str, Part]
    chosen: dict[str, list[Shard]]
    counts: dict[str, Counter]
    encoded: dict[str, list[Shard]]
    tokenizer: PreTrainedTokenizerBase
    canaries: list[dict]


def run_pipeline(
    args: DataArguments,
    work: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    whole: bool = False,
) -> Result:
    """Takes the text that `args` name through all steps; shards lie in the folder `work`, and what is there is used.

    Args:
        tokenizer: a character tokenizer to encode with; without one it is built from the training split.
        seed: for the choice of documents to hold out.
        whole: all of it is one split, "train".

    Raises:
        DataError: for everything about the data that the user can mend.
    """
    sources = {"train": open_source(args)}
    if args.validation_file:
        sources["validation"] = open_files(args.validation_file, args)
    parts = {name: _judge_source(source, args, work) for name, source in sources.items()}
    for part in parts.values():
        _check_something_left(part, args)
    _drop_copies(parts, args, work)
    for part in parts.values():
        _check_something_left(part, args)
    key = step_key("split", [part.key for part in parts.values()], _options(args, _SPLIT_OPTIONS), seed, whole)
    chosen = _choose_splits(parts, args, seed, whole, work / f"cuts-{key}")
    join = args.input_mode == "stream"
    key = step_key(key, args.canaries, seed)
    chosen["train"], canaries = plant(chosen["train"], args.canaries, args.input_mode, seed, work / f"plant-{key}")
    counts = {name: _count(shards, work / f"count-{key}-{name}", join, args) for name, shards in chosen.items()}
    if tokenizer is None:
        tokenizer = BoustroTokenizer.train_from_counts(
            counts["train"], min_frequency=args.min_frequency, max_vocab_size=args.max_vocab_size
        )
    encoder = CharacterEncoder(tokenizer, args.segmenter)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    key = step_key(key, args.segmenter, segmenter_code(args.segmenter), vocabulary)
    encoded = {
        name: map_shards(
            shards,
            work / f"encode-{key}-{name}",
            partial(encode_rows, encoder=encoder, join=join),
            encoded_features(encoder.id_type),
            f"Encoding ({name})",
            args.num_proc,
        )
        for name, shards in chosen.items()
    }
    return Result(key, parts, chosen, counts, encoded, tokenizer, canaries)


def _options(args: DataArguments, names: Iterable[str]) -> list:
    return [getattr(args, name) for name in names]


# Batch functions, for `datasets.map(batched=True)` and for engines that have the same


def clean_rows(batch: dict, rules: Cleaning) -> dict:
    """`clean_batch`, and the characters as they were read."""
    return clean_batch(batch, rules) | {"raw_characters": [len(text or "") for text in batch["text"]]}


def redact_rows(batch: dict, action: str) -> dict:
    """`redact_batch`, with the separators."""
    return redact_batch(batch, action) | {"separator": batch["separator"]}


def judge_rows(batch: dict, rules: Sequence[Rule], drop_personal: bool, near: bool) -> dict:
    """The verdict on each row by itself, its length, and the marks by which copies are found."""
    reasons = [judge(text, rules) or KEPT for text in batch["text"]]
    if drop_personal:
        found = zip(reasons, batch["redactions"], strict=True)
        reasons = [reason or (PERSONAL_DATA if kinds else KEPT) for reason, kinds in found]
    lengths = list(map(len, batch["text"]))
    return {
        "verdict": [REASONS.index(reason) for reason in reasons],
        "characters": lengths,
        "stretch": [length + len(end) for length, end in zip(lengths, batch["separator"], strict=True)],
        **mark_batch(batch, near),
    }


def count_rows(batch: dict, join: bool) -> dict:
    """How often each character (a code point) occurs in the rows."""
    text = "".join(row_texts(batch, join))
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    characters, counts = np.unique(codes, return_counts=True)
    return {"character": characters, "count": counts}


def encode_rows(batch: dict, encoder: CharacterEncoder, join: bool) -> dict:
    """The rows' texts with their ids and word starts; `join`: as parts of a stream, with what stands between them."""
    texts = row_texts(batch, join)
    return {"text": texts} | encoder.encode_batch({"text": texts})


def row_texts(batch: dict, join: bool) -> list[str]:
    """The texts as they are encoded: in a stream, each with its separator."""
    if not join:
        return list(batch["text"])
    return [text + separator for text, separator in zip(batch["text"], batch["separator"], strict=True)]


# Steps


def _judge_source(source: Source, args: DataArguments, work: Path) -> Part:
    key = step_key("read", source.key)
    shards = write_rows(source.rows, work / f"read-{key}")
    rules = args.cleaning()
    key = step_key("clean", key, rules)
    clean = partial(clean_rows, rules=rules)
    cleaned = texts = map_shards(shards, work / f"clean-{key}", clean, CLEANED, "Cleaning", args.num_proc)
    if args.redact != "keep":
        key = step_key("redact", key, args.redact)
        redact = partial(redact_rows, action=args.redact)
        texts = map_shards(texts, work / f"redact-{key}", redact, REDACTED, "Redacting", args.num_proc)
    rules, near = args.rules(), args.near_duplicates
    key = step_key("judge", key, rules, near)
    assess = partial(judge_rows, rules=rules, drop_personal=args.redact == "drop", near=near)
    features = SIGNED if near else JUDGED
    judged = map_shards(texts, work / f"judge-{key}", assess, features, "Filtering", args.num_proc)
    verdicts = numbers(judged, "verdict")
    return Part(source, key, cleaned, texts, judged, verdicts, np.full(len(verdicts), -1, dtype=np.int64))


def _drop_copies(parts: dict[str, Part], args: DataArguments, work: Path) -> None:
    """Groups the copies among all parts and drops all but one of each group; what is held out stays."""
    order = sorted(parts.values(), key=lambda part: part is parts["train"])  # validation rows count as the first
    kept = [np.flatnonzero(part.kept) for part in order]
    exact = groups = group_exact(_of_kept(order, kept, "fingerprint"))
    if args.near_duplicates:
        key = step_key("near", [part.key for part in parts.values()], args.near_threshold)
        groups = _near_groups(order, kept, exact, args.near_threshold, work / f"near-{key}.npy")
    start, held_out = 0, 0
    for part, rows in zip(order, kept, strict=True):
        own = slice(start, start + len(rows))
        part.groups[rows] = groups[own]
        places = np.arange(own.start, own.stop)
        if args.deduplicate:
            verdicts = np.zeros(len(rows), dtype=np.uint8)
            verdicts[groups[own] != places] = REASONS.index(NEAR_DUPLICATE)
            verdicts[exact[own] != places] = REASONS.index(DUPLICATE)
            verdicts[groups[own] < held_out] = REASONS.index(HELD_OUT)
            part.verdicts[rows] = verdicts
        start, held_out = own.stop, own.stop


def _near_groups(
    order: Sequence[Part], kept: Sequence[np.ndarray], exact: np.ndarray, threshold: float, path: Path
) -> np.ndarray:
    """`group_near` over the kept rows; their signatures lie in a file while it works, its result in another."""
    if path.is_file():
        return np.load(path)
    scratch = path.with_suffix(".signatures")
    with writing_errors(path.parent):
        try:
            with open(scratch, "wb") as file:
                for part, rows in zip(order, kept, strict=True):
                    for values in _of_rows(part.judged, rows, "signature"):
                        file.write(b"".join(values))
            signatures = np.memmap(scratch, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)
            groups = group_near(signatures, _of_kept(order, kept, "length"), exact, threshold)
            del signatures
        finally:
            scratch.unlink(missing_ok=True)
        partial_path = path.with_suffix(".partial.npy")
        np.save(partial_path, groups)
        partial_path.replace(path)
    return groups


def _of_kept(order: Sequence[Part], kept: Sequence[np.ndarray], name: str) -> np.ndarray:
    """A column of numbers of the kept rows of all parts."""
    return np.concatenate([numbers(part.judged, name)[rows] for part, rows in zip(order, kept, strict=True)])


def _of_rows(shards: Sequence[Shard], rows: np.ndarray, name: str) -> Iterator[list]:
    """A column of the chosen rows (in order, numbered through all shards), a shard at a time."""
    for shard in select_rows(shards, rows):
        yield shard.open()[name][:]


def select_rows(shards: Sequence[Shard], rows: np.ndarray) -> list[Shard]:
    """The shards of whole files cut down to the chosen rows (numbered through all of them); none is empty."""
    chosen, start = [], 0
    for shard in shards:
        size = len(shard.open())
        first, last = np.searchsorted(rows, [start, start + size])
        if first < last:
            chosen.append(Shard(shard.path, rows[first:last] - start))
        start += size
    return chosen


def _check_something_left(part: Part, args: DataArguments) -> None:
    if part.kept.any():
        return
    reasons = dropped(part)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    mend = f"Give more text, or lower min_characters (now {args.min_characters}) and take rules out of filters."
    if HELD_OUT in reasons:
        mend = (
            "held_out rows are copies of rows of validation_file: give another file there, or none, and "
            "validation_fraction of the text is held out."
        )
    raise DataError(
        f"Nothing is left of {part.source.name} after cleaning: {len(part.verdicts)} rows read, dropped {counts}. "
        f"{mend}"
    )


def dropped(part: Part) -> dict[str, int]:
    """Rows by the reason for which they were dropped."""
    counts = np.bincount(part.verdicts, minlength=len(REASONS))
    return {reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if reason and count}


def _choose_splits(
    parts: dict[str, Part], args: DataArguments, seed: int, whole: bool, cuts: Path
) -> dict[str, list[Shard]]:
    """The shards of each split."""
    train = parts["train"]
    rows = np.flatnonzero(train.kept)
    fractions = [] if whole else _fractions(args, "validation" in parts)
    if not fractions:
        splits = {"train": select_rows(train.texts, rows)}
    else:
        names = ["train", *fractions]
        shares = list(fractions.values())
        if args.input_mode == "stream":
            lengths = numbers(train.judged, "stretch")[rows].astype(np.int64)
            pieces = _cut_stream(train.texts, rows, stream_cuts(lengths, shares), cuts)
        else:
            which = choose_documents(train.groups[rows], shares, seed)
            pieces = [select_rows(train.texts, rows[which == number]) for number in range(len(names))]
        splits = dict(zip(names, pieces, strict=True))
    if "validation" in parts:
        held_out = parts["validation"]
        splits["validation"] = select_rows(held_out.texts, np.flatnonzero(held_out.kept))
    return {name: splits[name] for name in SPLITS if name in splits}


def _fractions(args: DataArguments, has_validation: bool) -> dict[str, float]:
    fractions = {} if has_validation else {"validation": args.validation_fraction}
    return fractions | ({"test": args.test_fraction} if args.test_fraction else {})


def _cut_stream(
    shards: Sequence[Shard], rows: np.ndarray, places: Sequence[tuple[int, int]], folder: Path
) -> list[list[Shard]]:
    """The shards of the parts of a stream; a row in which a cut falls is stored in its pieces in a folder."""
    bounds = [(0, 0), *places, (len(rows), 0)]
    parts = []
    for number, ((row, within), (next_row, next_within)) in enumerate(pairwise(bounds)):
        first = row + (within > 0)
        pieces = []
        if within > 0:
            stop = next_within if next_row == row else None
            pieces.append(_piece(shards, rows[row], slice(within, stop), folder / f"{number}-first.arrow"))
        pieces += select_rows(shards, rows[first:next_row])
        if next_within > 0 and not (next_row == row and within > 0):
            pieces.append(_piece(shards, rows[next_row], slice(next_within), folder / f"{number}-last.arrow"))
        parts.append(pieces)
    return parts


def _piece(shards: Sequence[Shard], row: int, part: slice, path: Path) -> Shard:
    (shard,) = select_rows(shards, np.array([row]))
    (text,) = row_texts(shard.open()[:], join=True)
    with writing_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_shard([(text[part], "")], path)


def _count(shards: list[Shard], folder: Path, join: bool, args: DataArguments) -> Counter:
    """How often each character occurs."""
    count = partial(count_rows, join=join)
    counts = Counter()
    for shard in map_shards(shards, folder, count, COUNTED, "Counting characters", args.num_proc):
        table = shard.open()[:]
        for character, number in zip(table["character"], table["count"], strict=True):
            counts[chr(character)] += number
    return counts
