"""From raw text to encoded splits, in one command or one call.

    python -m boustro.data_scripts.prepare --input 'corpus/*.txt' --output prepared/
    python -m boustro.data_scripts.prepare --input poems.txt --output prepared/ --input-mode documents --keep-dropped
    python -m boustro.data_scripts.prepare --input book.txt --output prepared/ --verbatim
    python -m boustro.data_scripts.prepare --config preparation.yaml --num-proc 8
    python -m boustro.data_scripts.prepare --help
    python train.py --prepared prepared/ --output-dir runs/mine   # --config documents for --input-mode documents

The command reads rows as paragraphs, drops rows by the rules of quality, near copies too, and puts placeholders for
personal data; `--filters none`, `--no-near-duplicates` and `--redact keep` switch that off. Stopped, it goes on where
it was when it is started again.

    prepared = prepare(DataArguments(train_file=["corpus/*.txt"]))
    prepared.train.ids, prepared.tokenizer, prepared.report
"""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from datasets import DatasetDict
from huggingface_hub import DatasetCardData
from transformers import AutoTokenizer, HfArgumentParser, PreTrainedTokenizerBase

from .arguments import QUALITY_RULES, DataArguments
from .encoding import EncodedCorpus, corpus_of
from .errors import DataError
from .files import REPORT
from .kinds import describe, fits
from .pipeline import Result, dropped, run_pipeline
from .prepared import PreparedData, has_splits, load_prepared, save_splits
from .report import build_report, card_section, draw_picture, dropped_examples, dropped_texts, render_markdown
from .shards import concatenate, write_atomically

# What the command does by itself and `train.py` only when asked to.
COMMAND_DEFAULTS = {
    "sample_by": "paragraph",
    "filters": list(QUALITY_RULES),
    "near_duplicates": True,
    "redact": "replace",
}
USER_ERROR, INTERRUPTED = 2, 130


@dataclass
class CommandArguments:
    """Options of the command beside those of `DataArguments`."""

    input: list[str] | None = field(default=None, metadata={"help": "Text to prepare: the same as --train-file."})
    output: str = field(default="prepared", metadata={"help": "Folder for the result; see data_scripts/prepared.py."})
    config: str | None = field(default=None, metadata={"help": "YAML file of options; the command line overrides it."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Encode with the vocabulary of this checkpoint (folder or Hub id)."}
    )
    keep_dropped: bool = field(
        default=False, metadata={"help": "Write dropped rows, unredacted, to OUTPUT/dropped/REASON.jsonl."}
    )
    seed: int = field(default=0, metadata={"help": "Of the choice of documents to hold out."})


def prepare(args: DataArguments, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0) -> PreparedData:
    """Prepares the data that `args` name, or reads what `args.prepared` holds.

    The same text, options and seed give the same result, whatever `num_proc`.

    Args:
        tokenizer: a character tokenizer to encode with; without one it is built from the training part.
        seed: for the choice of validation rows (input mode "documents").

    Raises:
        DataError: for everything about the data that the user can mend.
    """
    if args.prepared:
        return load_prepared(args.prepared, tokenizer)
    with tempfile.TemporaryDirectory(prefix="boustro-", ignore_cleanup_errors=True) as work:
        result = run_pipeline(args, Path(work), tokenizer, seed)
        train, validation = (corpus_of(concatenate(result.encoded[name])) for name in ("train", "validation"))
        return PreparedData(train, validation, result.tokenizer, build_report(result, args))


def prepare_whole(args: DataArguments, tokenizer: PreTrainedTokenizerBase) -> tuple[EncodedCorpus, dict]:
    """Prepares the text that `args` name as one corpus, for scoring; returns it and the report of `build_report`.

    Raises `DataError` as `prepare` does.
    """
    with tempfile.TemporaryDirectory(prefix="boustro-", ignore_cleanup_errors=True) as work:
        result = run_pipeline(args, Path(work), tokenizer, whole=True)
        return corpus_of(concatenate(result.encoded["train"])), build_report(result, args)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0, 2 after an error of the user's, 130 if it was stopped."""
    try:
        command, args = parse(sys.argv[1:] if argv is None else argv)
        print(write_prepared(command, args))
        return 0
    except DataError as error:
        print(f"boustro: error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("boustro: stopped; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def parse(argv: list[str]) -> tuple[CommandArguments, DataArguments]:
    """The command line, over the values of --config, over the defaults of the command.

    Raises:
        DataError: for an option or a value that cannot be.
    """
    parser = _Parser(
        (CommandArguments, DataArguments),
        prog="python -m boustro.data_scripts.prepare",
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
    )
    parser.set_defaults(**COMMAND_DEFAULTS)  # for --help
    parser.add_argument(
        "--no-near-duplicates", dest="near_duplicates", action="store_false", help="Leave near copies where they are."
    )
    unset = object()
    hints = {name: hint for part in parser.dataclass_types for name, hint in get_type_hints(part).items()}
    given = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(hints, unset))))
    given = {name: value for name, value in given.items() if value is not unset}
    values = COMMAND_DEFAULTS | _read_config(given.get("config"), hints) | given
    values["train_file"] = values.get("input") or values.get("train_file")
    return parser.parse_dict(values)


class _Parser(HfArgumentParser):
    """HfArgumentParser that raises `DataError` in place of leaving the process."""

    def error(self, message: str):
        raise DataError(f"{message}; see --help.")


def _read_config(path: str | None, hints: dict[str, Any]) -> dict:
    """The options in a YAML file, each of the kind that its annotation in `hints` says."""
    if path is None:
        return {}
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"--config {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise DataError(f"--config {path} holds no settings, expected lines such as 'near_threshold: 0.6'.")
    values = {str(name).replace("-", "_"): value for name, value in values.items()}
    for name, value in values.items():
        if name not in hints or name == "config":
            raise DataError(f"--config {path}: {name!r} is no option; the options are {', '.join(sorted(hints))}.")
        if not fits(value, hints[name]):
            raise DataError(f"--config {path}: {name} is {value!r}, expected {describe(hints[name])}.")
    return values


def write_prepared(command: CommandArguments, args: DataArguments) -> str:
    """Prepares the text into the folder `command.output`; returns what to tell the user.

    Raises:
        DataError: for everything about data and options that the user can mend; finished shards are kept.
    """
    if not (args.train_file or args.dataset_name):
        raise DataError("there is nothing to prepare: give --input FILES or --dataset-name NAME.")
    folder = Path(command.output)
    if folder.is_file():
        raise DataError(f"--output {folder} is a file, expected a folder.")
    tokenizer = _load_tokenizer(command.tokenizer) if command.tokenizer else None
    result = run_pipeline(args, folder / "work", tokenizer, command.seed)
    report = build_report(result, args) | {
        "key": result.key,
        "options": _changed_options(command, args),
        "examples": dropped_examples(result),
    }
    try:
        if _stored_key(folder) != result.key or not has_splits(folder, result.encoded):
            splits = DatasetDict({name: concatenate(shards) for name, shards in result.encoded.items()})
            save_splits(splits, folder)
        result.tokenizer.save_pretrained(folder)
        _write_dropped(result, folder / "dropped", command.keep_dropped)
        draw_picture(report, result.counts["train"], folder / "report.png")
        write_atomically(folder / "report.md", render_markdown(report))
        write_atomically(folder / "README.md", dataset_card(report, folder.resolve().name))
        write_atomically(folder / REPORT, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error}). Finished shards are kept in {folder / 'work'}: free space and "
            "run the same command again."
        ) from error
    recipe = "--config documents " if args.input_mode == "documents" else ""
    command = f"python train.py {recipe}--prepared {folder}"
    return f"{card_section(report)}\n\nwritten: {folder} (report.md); train with: {command}"


def dataset_card(report: dict, name: str) -> str:
    """README.md of a prepared folder."""
    data = DatasetCardData(pretty_name=name, task_categories=["text-generation"], tags=["boustro", "character-level"])
    return f"""---
{data.to_yaml()}
---

# {name}

{card_section(report)}

Columns: `text`; `input_ids`, one id a character (rare characters in UTF-8 bytes); `word_starts`, 1 where a word
starts; and counts. The tokenizer lies beside the data; `report.md` says what was dropped and shows examples.

```python
import datasets
from transformers import AutoTokenizer

splits = datasets.load_from_disk("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
assert tokenizer.decode(splits["train"][0]["input_ids"]) == splits["train"][0]["text"]
```
"""


def _load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    if not Path(source).is_dir() and source.count("/") != 1:
        raise DataError(f"--tokenizer {source}: there is no such folder, and a Hub id would have the form user/name.")
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"--tokenizer {source}: no tokenizer can be loaded from there, expected the folder or Hub id of a "
            "checkpoint with a tokenizer.json."
        ) from error


def _stored_key(folder: Path) -> str | None:
    try:
        return json.loads((folder / REPORT).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        return None


def _changed_options(command: CommandArguments, args: DataArguments) -> dict:
    """Options that differ from those of `train.py`, as the report shows them."""
    plain = DataArguments(input_mode=args.input_mode)
    hidden = {"train_file", "num_proc", "input_mode"}
    changed = {
        option.name: getattr(args, option.name)
        for option in dataclasses.fields(args)
        if option.name not in hidden and getattr(args, option.name) != getattr(plain, option.name)
    }
    changed |= {"tokenizer": command.tokenizer} if command.tokenizer else {}
    for name in ("validation_file", "blocklist", "tokenizer", "dataset_name"):  # not where they lie on this machine
        if name == "dataset_name" and not Path(changed.get(name) or "").exists():
            continue  # a name on the Hub
        if isinstance(changed.get(name), str):
            changed[name] = Path(changed[name]).name
        elif name in changed:
            changed[name] = [Path(file).name for file in changed[name]]
    return changed | {"seed": command.seed}


def _write_dropped(result: Result, folder: Path, keep: bool) -> None:
    """One .jsonl file for each reason, or none."""
    shutil.rmtree(folder, ignore_errors=True)
    if not keep:
        return
    folder.mkdir(parents=True)
    for name, part in result.parts.items():
        for reason in dropped(part):
            with open(folder / f"{reason}.jsonl", "a", encoding="utf-8") as file:
                for text in dropped_texts(part, reason):
                    file.write(json.dumps({"text": text, "source": name}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
