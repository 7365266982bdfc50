"""Reads raw text through `datasets`: local files, a dataset on the Hub, or the embedded default corpus."""

import glob
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pydoc_data import topics

import datasets
import pandas
import pyarrow
from datasets import Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetNotFoundError
from pyarrow import parquet

from .arguments import DataArguments
from .errors import DataError
from .files import builder_for, check_contents, drop_empty, find_files, name_some
from .mapping import BYTES_FOR_A_BAR, progress_bars

_TEXT = Features({"text": Value("string")})
_STRING_TYPES = ("string", "large_string")
_LARGEST_ROW = (1 << 31) - 1  # bytes of one Arrow string


def default_corpus() -> str:
    """Returns the Python reference topics of the standard library, about 460,000 characters.

    They are sorted by name; a topic that stands under two names comes once. The text differs between Python
    versions.
    """
    texts = dict.fromkeys(topics.topics[name].strip("\n") for name in sorted(topics.topics))
    return "\n\n\n".join(texts) + "\n"


def load_texts(args: DataArguments) -> Dataset:
    """Returns the training text, uncleaned, as a dataset of one column "text" and at least one row.

    Files are cached by `datasets` under their contents, so that a changed file is read anew. A missing value is
    a row of None.

    Raises:
        DataError: if there is no such source, it cannot be read, or it has no such column of text.
    """
    if args.train_file:
        return load_files(args.train_file, args, args.max_characters, args.streaming)
    if args.dataset_name:
        return load_named_dataset(args)
    separator = {"line": "\n", "paragraph": "\n\n"}.get(args.sample_by)
    text = default_corpus()
    rows = _dataset_of(text.split(separator) if separator else [text])
    return _collect(rows, "text", args.max_characters, "the default corpus")


def load_files(
    patterns: Sequence[str],
    args: DataArguments,
    max_characters: int | None = None,
    streaming: bool = False,
) -> Dataset:
    """Reads local files; see `load_texts`. `args` says which column and what is a row of a .txt file."""
    paths = find_files(patterns)
    builder = builder_for(paths)
    paths = drop_empty(paths)
    key = check_contents(paths, is_text=builder != "parquet", whole=not streaming)
    column = "text" if builder == "text" else args.text_column
    options = _builder_options(builder, paths, column, args.sample_by)
    size = sum(map(os.path.getsize, paths))
    with progress_bars(size >= BYTES_FOR_A_BAR), warnings.catch_warnings():
        # pandas only warns when it cuts off the fields that a header does not name
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        try:
            rows = _load(builder, paths, streaming, name=f"boustro-{key}", **options)
            return _collect(rows, column, max_characters, ", ".join(patterns))
        except DataError:
            raise
        # Parsers raise what they like; whatever it is, the user needs the file's name and the reason.
        except Exception as error:
            raise DataError(_describe_unreadable(builder, paths, options, error)) from error


def load_named_dataset(args: DataArguments) -> Dataset:
    """Reads `args.dataset_name` from the Hub (or a local dataset folder); see `load_texts`."""
    try:
        rows = datasets.load_dataset(
            args.dataset_name, args.dataset_config, split=args.dataset_split, streaming=args.streaming
        )
        return _collect(rows, args.text_column, args.max_characters, args.dataset_name)
    except DataError:
        raise
    # From the network to the parsers of every format: all of it ends in one sentence.
    except Exception as error:
        raise DataError(_describe_unloadable(args.dataset_name, error)) from error


def take_texts(rows: Iterable[dict], column: str, max_characters: int | None, source: str) -> Iterator[str | None]:
    """Yields the texts of rows as they come; the one that crosses `max_characters` is cut there.

    Raises:
        DataError: if a row lacks the column or holds something else than a string in it.
    """
    left = max_characters
    for row in rows:
        if column not in row:
            raise DataError(_describe_missing(source, column, row))
        text = row[column]
        if text is not None and not isinstance(text, str):
            raise DataError(_describe_type(source, column, f"{type(text).__name__} values"))
        yield text if left is None or text is None else text[:left]
        if left is not None and text is not None:
            left -= len(text)
            if left <= 0:
                return


def _load(builder: str, paths: Sequence[str], streaming: bool, **options) -> Dataset | IterableDataset:
    escaped = [glob.escape(path) for path in paths]
    return datasets.load_dataset(builder, data_files=escaped, split="train", streaming=streaming, **options)


def _builder_options(builder: str, paths: Sequence[str], column: str, sample_by: str) -> dict:
    """What the builder is to do, after a look at the heads of the files where they name their columns."""
    if builder == "text":
        if sample_by == "document":
            _check_sizes(paths)
        return {"sample_by": sample_by}
    if builder == "csv":
        for path in paths:
            _check_column(path, column, _csv_columns(path))
        features = Features({column: Value("string")})
        # "NA" and "null" are words; a row of too many fields is an error, not an index column.
        return {"features": features, "index_col": False, "keep_default_na": False, "na_filter": False}
    if builder == "parquet":
        for path in paths:
            _check_column(path, column, _parquet_columns(path))
        return {"columns": [column]}
    return {}


def _check_sizes(paths: Sequence[str]) -> None:
    for path in paths:
        if os.path.getsize(path) > _LARGEST_ROW:
            raise DataError(
                f"{path} has {os.path.getsize(path)} bytes, and a row can have {_LARGEST_ROW}: "
                "choose sample_by line or paragraph, or split the file."
            )


def _csv_columns(path: str) -> list[str]:
    try:
        return [str(column) for column in pandas.read_csv(path, nrows=0, index_col=False).columns]
    except ValueError as error:
        raise DataError(f"{path} cannot be read as csv: {_first_line(error)}.") from error


def _parquet_columns(path: str) -> list[str]:
    try:
        return parquet.read_schema(path).names
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as parquet: {_first_line(error)}") from error


def _collect(rows: Dataset | IterableDataset, column: str, max_characters: int | None, source: str) -> Dataset:
    """The column of text as a dataset of its own."""
    if rows.column_names is not None:
        _check_column(source, column, rows.column_names)
        rows = rows.select_columns([column])
    if isinstance(rows, Dataset):
        kind = rows.features[column]
        if not isinstance(kind, Value) or kind.dtype not in _STRING_TYPES:
            raise DataError(_describe_type(source, column, str(kind)))
        if max_characters is None:
            return rows.rename_column(column, "text").cast(_TEXT) if column != "text" else rows
    texts = list(take_texts(rows, column, max_characters, source))
    if not texts:
        raise DataError(f"{source} has no rows: give data with text.")
    return _dataset_of(texts)


def _dataset_of(texts: list[str | None]) -> Dataset:
    return Dataset.from_dict({"text": texts}, features=_TEXT)


def _check_column(source: str, column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        raise DataError(_describe_missing(source, column, columns))


def _describe_missing(source: str, column: str, columns: Iterable[str]) -> str:
    return (
        f"{source} has no column {column!r}; its columns are {', '.join(map(repr, columns))}: "
        "name the one that holds the text as text_column."
    )


def _describe_type(source: str, column: str, found: str) -> str:
    return (
        f"Column {column!r} of {source} holds {found}, expected strings: name another one as text_column, or "
        "convert its values."
    )


def _describe_unreadable(builder: str, paths: Sequence[str], options: dict, error: Exception) -> str:
    """Reads the files one by one to find the one at fault."""
    rows = 0
    for path in paths:
        try:
            rows += sum(1 for _ in _load(builder, [path], streaming=True, **options))
        except Exception as fault:
            if builder == "json" and (line := _json_fault(path)):
                return f"{path}, {line}"
            return f"{path} cannot be read as {builder}: {_first_line(fault)}"
    if rows == 0:
        return f"{name_some(paths)} has no rows: give data with text."
    return f"{name_some(paths)} cannot be read as {builder}: {_first_line(error)}"


def _json_fault(path: str) -> str | None:
    """Says which line of a .jsonl file is not an object of valid strings."""
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode("utf-8")
            except json.JSONDecodeError as error:
                return f"line {number}: no valid JSON ({error.msg}, column {error.colno}). Mend the line."
            except UnicodeEncodeError:
                return f"line {number}: a lone surrogate (\\ud800 to \\udfff), which is no character. Remove it."
            if not isinstance(row, dict):
                return f'line {number}: {type(row).__name__}, expected an object such as {{"text": "..."}}.'
    return None


def _describe_unloadable(name: str, error: Exception) -> str:
    if isinstance(error, DatasetNotFoundError):
        return (
            f"There is no dataset {name!r} on the Hub, or it is private: check its name, or log in with "
            "`hf auth login`."
        )
    if isinstance(error, ConnectionError):
        return (
            f"The dataset {name!r} could not be reached ({_first_line(error)}): check the connection and "
            "HF_HUB_OFFLINE, or give local files as train_file."
        )
    return f"The dataset {name!r} cannot be loaded: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    """The reason at the bottom of a chain of exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).strip().splitlines()[0]
