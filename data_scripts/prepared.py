"""The folder that the command `prepare` writes, and how it is read again.

prepared/train, validation, test   Arrow files; `datasets.load_from_disk("prepared")` reads all of them
prepared/tokenizer.json …          `AutoTokenizer.from_pretrained("prepared")` loads it
prepared/report.json, .md, .png    what was done
prepared/README.md                 the card of the dataset
prepared/dropped                   the dropped rows, with --keep-dropped
prepared/work                      finished shards of every step; may be deleted
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from boustro.tokenization_boustro import BoustroTokenizer

from .encoding import EncodedCorpus, corpus_of
from .errors import DataError
from .files import REPORT, read_report
from .mapping import progress_bars

SHARD_SIZE = "500MB"


@dataclass(frozen=True)
class PreparedData:
    """What a training run needs of its data.

    Attributes:
        report: plain numbers and strings for `metrics.json` and the model card (see `report.build_report`).
    """

    train: EncodedCorpus
    validation: EncodedCorpus
    tokenizer: PreTrainedTokenizerBase
    report: dict


def load_prepared(folder: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> PreparedData:
    """Reads a prepared folder for training.

    Args:
        tokenizer: of a checkpoint that is to be trained on; the folder must have been encoded with the same.

    Raises:
        DataError: if the folder is not finished, or the vocabularies differ.
    """
    folder = Path(folder)
    report = read_report(folder)
    own = BoustroTokenizer.from_pretrained(folder)
    if tokenizer is not None and tokenizer.get_vocab() != own.get_vocab():
        raise DataError(
            f"prepared {folder} was encoded with another vocabulary ({len(own)} ids) than the checkpoint's "
            f"({len(tokenizer)} ids): prepare the text anew with --tokenizer and the checkpoint's folder."
        )
    splits = datasets.load_from_disk(str(folder))
    if "validation" not in splits:
        raise DataError(f"prepared {folder} has no validation split: prepare the text with a --validation-fraction.")
    for name in ("examples", "options"):
        report.pop(name, None)
    return PreparedData(corpus_of(splits["train"]), corpus_of(splits["validation"]), own, report)


def has_splits(folder: Path, names: Iterable[str]) -> bool:
    """Whether the folder holds all files of these splits."""
    try:
        states = {name: json.loads((folder / name / "state.json").read_text(encoding="utf-8")) for name in names}
    except (OSError, ValueError):
        return False
    files = [folder / name / file["filename"] for name, state in states.items() for file in state["_data_files"]]
    return all(path.is_file() for path in files)


def save_splits(splits: DatasetDict, folder: Path) -> None:
    """Writes the splits into the folder, in place of those that are there."""
    (folder / REPORT).unlink(missing_ok=True)
    partial = folder / "work" / "splits"
    shutil.rmtree(partial, ignore_errors=True)
    with progress_bars(sum(split.data.nbytes for split in splits.values()) > 1 << 28):
        splits.save_to_disk(partial, max_shard_size=SHARD_SIZE)
    for name in ("train", "validation", "test"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in partial.iterdir():
        path.replace(folder / path.name)
    partial.rmdir()
