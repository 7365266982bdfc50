"""Work in shards: each is an Arrow file that appears whole or not at all, so that a stopped run goes on where it was.

A step's folder is named after a key of everything that its result depends on. A changed option gives another key and
another folder, for that step and those that build on it; finished shards are never made twice.
"""

import functools
import hashlib
import importlib.metadata
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow
from datasets import Dataset, Features, Value
from tqdm.auto import tqdm

from boustro import tokenization_boustro

from .errors import DataError
from .mapping import BAR_DELAY, BATCH_ROWS, progress_bars
from .reading import Row

SHARD_CHARACTERS = 1 << 21  # of raw text; a worker holds about one shard
ROWS = Features({"text": Value("string"), "separator": Value("string")})
_LIBRARIES = (
    *("ftfy", "regex", "rensa", "rjieba", "jieba", "detect-secrets", "phonenumberslite", "datasets"),
    *("py3langid", "opencc"),
)


def step_key(*parts: object) -> str:
    """A name for what `parts` (by their repr), this code and its libraries make of a text."""
    return hashlib.blake2b(repr((*parts, _code())).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@functools.cache
def _code() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(Path(tokenization_boustro.__file__).read_bytes())
    digest.update(repr([_version(name) for name in _LIBRARIES]).encode())
    return digest.hexdigest()


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # an optional one
        return None


@dataclass(frozen=True)
class Shard:
    """An Arrow file, and which of its rows count (None: all)."""

    path: Path
    rows: np.ndarray | None = None

    def open(self) -> Dataset:
        """The rows, memory-mapped. Raises `DataError` if the file is damaged."""
        try:
            dataset = Dataset.from_file(str(self.path))
        except pyarrow.ArrowInvalid as error:
            raise DataError(
                f"{self.path} is damaged ({str(error).splitlines()[0]}): delete this file and run the same command "
                "again; the other finished shards are kept."
            ) from error
        return dataset if self.rows is None else dataset.select(self.rows)


def write_rows(rows: Callable[[], Iterator[Row]], folder: Path) -> list[Shard]:
    """Writes the rows, with the columns "text" and "separator", to shards in a folder.

    Shards that are there are kept, and where all of them are nothing is read.

    Raises:
        DataError: if they cannot be written.
    """
    finished = folder / "finished"
    if not finished.is_file():
        with _writing(folder), tqdm(desc="Reading", unit="shard", delay=BAR_DELAY) as bar:
            number = -1
            for number, shard in enumerate(_cut(rows())):
                write_shard(shard, _path(folder, number))
                bar.update()
            write_atomically(finished, str(number + 1))
    return [Shard(_path(folder, number)) for number in range(int(finished.read_text()))]


def write_shard(rows: Sequence[Row], path: Path) -> Shard:
    """Writes rows with the columns "text" and "separator", unless the file is there."""
    if not path.is_file():
        texts, separators = zip(*rows, strict=True)
        table = Dataset.from_dict({"text": texts, "separator": separators}, features=ROWS)
        _store(table, dict, ROWS, path)
    return Shard(path)


def map_shards(
    shards: Sequence[Shard],
    folder: Path,
    function: Callable[[dict], dict],
    features: Features,
    description: str,
    num_proc: int = 1,
) -> list[Shard]:
    """Runs a batch function of `datasets.map` over the rows of every shard, in up to `num_proc` processes.

    Args:
        shards: not empty.
        folder: of the results, one a shard, in order; those that are there are taken as they are.
        function: from a batch to the columns of `features`; it must be picklable.

    Raises:
        DataError: if the results cannot be written; those that are finished are kept.
    """
    targets = [_path(folder, number) for number in range(len(shards))]
    todo = [(shard, target) for shard, target in zip(shards, targets, strict=True) if not target.is_file()]
    work = functools.partial(_map_shard, function=function, features=features)
    bar = functools.partial(
        tqdm,
        desc=description,
        total=len(shards),
        initial=len(shards) - len(todo),
        unit="shard",
        delay=BAR_DELAY,
        disable=len(shards) == 1,
    )
    processes = min(num_proc, len(todo))
    with _writing(folder):
        if processes > 1:
            with ProcessPoolExecutor(processes) as pool:
                _wait(bar(pool.map(work, *zip(*todo, strict=True))))
        else:
            _wait(bar(itertools.starmap(work, todo)))
    return [Shard(target) for target in targets]


def numbers(shards: Sequence[Shard], name: str) -> np.ndarray:
    """A column of numbers of all rows of all shards as one array."""
    return np.concatenate([shard.open().data.column(name).to_numpy() for shard in shards])


def concatenate(shards: Sequence[Shard]) -> Dataset:
    """The rows of several shards, memory-mapped."""
    return datasets.concatenate_datasets([shard.open() for shard in shards])


def write_atomically(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.arrow"


def _cut(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Lists of rows of `SHARD_CHARACTERS` or a little more in all."""
    shard, size = [], 0
    for row in rows:
        shard.append(row)
        size += len(row[0] or "") + 1
        if size >= SHARD_CHARACTERS:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _map_shard(shard: Shard, target: Path, function: Callable[[dict], dict], features: Features) -> None:
    _store(shard.open(), function, features, target)


def _store(dataset: Dataset, function: Callable[[dict], dict], features: Features, target: Path) -> None:
    partial = target.with_suffix(".partial")
    with progress_bars(False):
        dataset.map(
            function,
            batched=True,
            batch_size=BATCH_ROWS,
            remove_columns=dataset.column_names,
            features=features,
            cache_file_name=str(partial),
            load_from_cache_file=False,
            new_fingerprint=target.stem,  # spares hashing the function
        )
    os.replace(partial, target)


def _wait(tasks: Iterable[None]) -> None:
    for _ in tasks:
        pass


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Makes a folder, rid of what a killed run left half done; see `writing_errors`."""
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        try:
            yield
        except OSError:
            _sweep(folder)  # on a full disk every byte counts
            raise


def _sweep(folder: Path) -> None:
    """Deletes what is half done."""
    for path in folder.iterdir():
        if path.suffix != ".arrow" and path.name != "finished":
            path.unlink()


@contextmanager
def writing_errors(folder: Path) -> Iterator[None]:
    """Says in one sentence, a `DataError`, why a folder cannot be written."""
    try:
        yield
    except BrokenProcessPool as error:
        raise DataError(
            f"A process was killed while it wrote to {folder}, perhaps for want of memory. Finished shards are kept: "
            "run the same command again, with a smaller num_proc."
        ) from error
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error}). Finished shards are kept: free some space, or mend what is wrong, "
            "and run the same command again."
        ) from error
