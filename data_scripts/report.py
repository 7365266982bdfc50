"""What preparation did to a text: as plain numbers, as Markdown for people and cards, as a picture."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import regex
from matplotlib.figure import Figure

from .arguments import DataArguments
from .pipeline import REASONS, Part, Result, dropped, select_rows
from .redaction import redact
from .shards import Shard, numbers

EXAMPLES = 3  # rows shown for each reason
SHOWN_SCRIPTS = 6
EXCERPT = 160  # characters of a row that are shown
_NAMED_SCRIPTS = (
    *("Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Thai"),
)
_SCRIPTS = {
    **{name: rf"\p{{Script={name}}}" for name in _NAMED_SCRIPTS},
    "other letters": r"[\p{L}\p{M}]",
    "digits": r"\p{N}",
    "white space": r"\s",
    "punctuation and symbols": r"[\p{P}\p{S}]",
    "other": r"(?s:.)",
}
_SCRIPT_PATTERNS = {name: regex.compile(pattern) for name, pattern in _SCRIPTS.items()}


def build_report(result: Result, args: DataArguments) -> dict:
    """Plain numbers and strings about a run of the pipeline.

    Returns:
        "name" (of files without their folders), "input_mode", "sample_by";
        "input": {"rows", "characters"} as read, "kept": the same of what is encoded, what parts the rows of a
        stream not counted, "dropped": rows by reason;
        "validation_input", "validation_kept", "validation_dropped": the same of `args.validation_file`;
        "canaries": what was planted in the training split, see `canaries.plant`;
        "changes": rows that a cleaning rule changed, by rule; "redactions": findings by kind, None if not sought;
        for each split {"documents", "characters", "bytes", "ids"};
        "vocabulary_size" in ids, "vocabulary": distinct training characters, and how many of them make up 99 and
        99.9 % of the text; "unknown_share", the share of validation (else training) characters spelt in bytes;
        "scripts": shares of the training characters; "lengths": kept rows by length, in powers of two.
    """
    splits = {name: _sizes(shards) for name, shards in result.encoded.items()}
    name = result.parts["train"].source.name
    if args.train_file or Path(name).exists():  # not where it lies on this machine
        name = ", ".join(Path(file).name for file in args.train_file or [name])
    report = {"name": name, "input_mode": args.input_mode, "sample_by": result.parts["train"].source.unit}
    for name, part in result.parts.items():
        kept = numbers(part.judged, "characters")[part.kept]
        facts = {
            "input": {"rows": len(part.verdicts), "characters": int(_total(part.cleaned, "raw_characters"))},
            "kept": {"rows": len(kept), "characters": int(kept.sum(dtype=np.int64))},
            "dropped": dropped(part),
        }
        report |= facts if name == "train" else {f"{name}_{key}": value for key, value in facts.items()}
    counted = splits.get("validation", splits["train"])
    counts = result.counts["train"]
    return report | {
        "canaries": result.canaries,
        "changes": _tally(result, "cleaned", "changes"),
        "redactions": _tally(result, "texts", "redactions") if args.redact != "keep" else None,
        **{
            name: {key: sizes[key] for key in ("documents", "characters", "bytes", "ids")}
            for name, sizes in splits.items()
        },
        "vocabulary_size": len(result.tokenizer),
        "vocabulary": {"characters": len(counts)}
        | {f"covering_{share}": _covering(counts, share) for share in (0.99, 0.999)},
        "unknown_share": counted["unknown_characters"] / counted["characters"],
        "scripts": _scripts(counts),
        "lengths": _lengths(result),
    }


def dropped_examples(result: Result) -> dict[str, list[str]]:
    """The beginnings of the first three rows dropped for each reason, personal data replaced."""
    examples = {}
    for reason in (reason for part in result.parts.values() for reason in dropped(part)):
        rows = islice((row for part in result.parts.values() for row in dropped_texts(part, reason)), EXAMPLES)
        examples[reason] = [_excerpt(text) for text in rows]
    return examples


def dropped_texts(part: Part, reason: str):
    """Yields the texts of the rows that were dropped for a reason, cleaned but not redacted."""
    for shard in select_rows(part.cleaned, np.flatnonzero(part.verdicts == REASONS.index(reason))):
        yield from shard.open()["text"][:]


def card_section(report: dict) -> str:
    """A short Markdown section about the text, for the card of a dataset or of a model; without examples."""
    lines = [
        f"- Text: {report['name']}, read as {_mode(report)}.",
        f"- {_in_and_out(report)}",
        f"- {_drops(report['dropped'])}",
    ]
    if "validation_input" in report:
        dropped_rows = _drops(report["validation_dropped"])
        lines.append(f"- Held-out text: {_in_and_out(report, 'validation_')} {dropped_rows}")
    if report.get("changes"):
        lines.append(f"- Rows changed by cleaning: {_listed(report['changes'])}.")
    if report.get("redactions"):
        lines.append(f"- Personal data and secrets found and replaced or dropped: {_listed(report['redactions'])}.")
    if report.get("lengths"):
        lines.append(f"- {_rows_by_length(report['lengths'])}")
    if report.get("scripts"):
        shares = ", ".join(f"{name} {share:.1%}" for name, share in list(report["scripts"].items())[:SHOWN_SCRIPTS])
        lines.append(f"- Characters of the training text: {shares}.")
    if report.get("vocabulary"):
        words = report["vocabulary"]
        lines.append(
            f"- {words['characters']:,} distinct characters, of which {words['covering_0.99']:,} make up 99 % of the "
            f"training text; {report['unknown_share']:.3%} of the validation characters are spelt in bytes."
        )
    lines += ["", "| split | rows | characters | bytes | ids |", "|---|---|---|---|---|"]
    for name in ("train", "validation", "test"):
        if name in report:
            sizes = report[name]
            cells = (f"{sizes[key]:,}" for key in ("documents", "characters", "bytes", "ids"))
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def render_markdown(report: dict) -> str:
    """report.md: everything, with the examples of dropped rows and the picture."""
    parts = [
        f"# Preparation of {report['name']}",
        card_section(report),
        "![drops, lengths, scripts, vocabulary](report.png)",
    ]
    for reason, texts in report.get("examples", {}).items():
        count = report["dropped"].get(reason, 0) + report.get("validation_dropped", {}).get(reason, 0)
        shown = "\n".join(f"- {_quoted(text)}" for text in texts)
        parts.append(f"## Dropped: {reason} ({count:,})\n\n{shown}")
    if report.get("options"):
        rows = "\n".join(f"| {name} | {value} |" for name, value in report["options"].items())
        parts.append(f"## Options that are not at their defaults\n\n| option | value |\n|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def draw_picture(report: dict, counts: Counter, path: Path) -> None:
    """report.png: rows kept and dropped, lengths, scripts, and how many characters cover how much of the text."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    rows, lengths, scripts, coverage = figure.subplots(2, 2).flat
    fates = {"kept": report["kept"]["rows"], **report["dropped"]}
    _bars(rows, fates, "rows", "{:,.0f}")
    rows.set(xscale="symlog", xlim=(0, None))
    sizes, numbers_of_rows = report["lengths"]["at_least"], report["lengths"]["rows"]
    lengths.bar(range(len(sizes)), numbers_of_rows)
    lengths.set(title="kept rows by length", xlabel="characters, at least", xticks=range(len(sizes)))
    lengths.set_xticklabels([f"{size:,}" for size in sizes], rotation=60, fontsize=7)
    shares = {name: 100 * share for name, share in list(report["scripts"].items())[:SHOWN_SCRIPTS]}
    _bars(scripts, shares, "characters by script, %", "{:.2f}")
    values = np.sort(np.array(list(counts.values())))[::-1]
    coverage.plot(np.arange(1, len(values) + 1), 100 * np.cumsum(values) / values.sum())
    coverage.set(title="coverage", xlabel="most frequent characters", ylabel="% of the training text", xscale="log")
    figure.savefig(path, dpi=110)


def _bars(axes, values: dict[str, float], title: str, style: str) -> None:
    names = list(values)[::-1]
    bars = axes.barh(names, [values[name] for name in names])
    axes.bar_label(bars, fmt=style, fontsize=8, padding=2)
    axes.set(title=title)
    axes.margins(x=0.15)


def _sizes(shards: Sequence[Shard]) -> dict[str, int]:
    names = ("characters", "bytes", "unknown_characters")
    return {
        "documents": sum(len(shard.open()) for shard in shards),
        "ids": sum(
            int(chunk.value_lengths().to_numpy().sum())
            for shard in shards
            for chunk in shard.open().data.column("input_ids").chunks
        ),
        **{name: int(_total(shards, name)) for name in names},
    }


def _total(shards: Sequence[Shard], name: str) -> int:
    return int(numbers(shards, name).sum(dtype=np.int64))


def _tally(result: Result, stage: str, name: str) -> dict[str, int]:
    """How often each string occurs in a column of lists, of all sources."""
    tally = Counter()
    for part in result.parts.values():
        for shard in getattr(part, stage):
            tally.update(string for strings in shard.open()[name][:] for string in strings)
    return dict(tally.most_common())


def _covering(counts: Counter, share: float) -> int:
    """How many of the most frequent characters make up a share of the text."""
    ranked = np.sort(np.array(list(counts.values())))[::-1]
    return int(np.searchsorted(np.cumsum(ranked), share * ranked.sum())) + 1


def _scripts(counts: Counter) -> dict[str, float]:
    shares, total = Counter(), sum(counts.values())
    for character, count in counts.items():
        shares[next(name for name, pattern in _SCRIPT_PATTERNS.items() if pattern.match(character))] += count
    return {name: count / total for name, count in shares.most_common()}


def _lengths(result: Result) -> dict:
    """Kept rows of the training source by length, in powers of two, and the median length."""
    part = result.parts["train"]
    lengths = numbers(part.judged, "characters")[part.kept]
    powers = np.bincount(np.log2(np.maximum(lengths, 1)).astype(np.int64))
    first = int(np.flatnonzero(powers)[0])
    return {
        "median": float(np.median(lengths)),
        "at_least": [2**power for power in range(first, len(powers))],
        "rows": powers[first:].tolist(),
    }


def _mode(report: dict) -> str:
    unit = {"line": "lines", "paragraph": "paragraphs", "document": "whole files or rows"}[report["sample_by"]]
    return f"{'one stream' if report['input_mode'] == 'stream' else 'documents'}, rows are {unit}"


def _in_and_out(report: dict, prefix: str = "") -> str:
    read, kept = report[f"{prefix}input"], report[f"{prefix}kept"]
    return (
        f"{_rows(read['rows'])} of {read['characters']:,} characters read, "
        f"{_rows(kept['rows'])} of {kept['characters']:,} characters kept."
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _rows_by_length(lengths: dict) -> str:
    counts = zip(lengths["at_least"], lengths["rows"], strict=True)
    shown = ", ".join(f"{rows:,} of {size:,} to {2 * size - 1:,}" for size, rows in counts if rows)
    return f"Rows by length in characters (median {lengths['median']:,.0f}): {shown}."


def _drops(counts: dict[str, int]) -> str:
    return f"Rows dropped: {_listed(counts)}." if counts else "No row was dropped."


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _excerpt(text: str) -> str:
    text = " ".join(redact(text[: 4 * EXCERPT]).split())
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]} …"


def _quoted(text: str) -> str:
    fence = "`" * (1 + max(map(len, regex.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if text else "(nothing but white space)"
