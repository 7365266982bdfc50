"""Reads raw text through `datasets`: local files, a dataset on the Hub, or the embedded default corpus."""

import datetime
import glob
import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics

import datasets
import pandas
import pyarrow
from datasets import Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetNotFoundError
from datasets.utils import logging
from huggingface_hub import HfApi
from pyarrow import parquet

from .arguments import DataArguments
from .errors import DataError
from .files import builder_for, check_contents, drop_empty, find_files, name_some
from .mapping import progress_bars
from .reading import SEPARATORS, Row, cut_row, read_rows, separate

_STRING_TYPES = ("string", "large_string")
_BLOCK_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Source:
    """Text that has not been read yet.

    Attributes:
        name: what a user calls it.
        unit: what a row is, "line", "paragraph" or "document".
        key: equal only where the rows are; a streamed dataset is known by the sizes and times of its files, or on the
            Hub by its commit.
        rows: reads it from the beginning.
    """

    name: str
    unit: str
    key: str
    rows: Callable[[], Iterator[Row]]


def default_corpus() -> str:
    """Returns the Python reference topics of the standard library, about 460,000 characters.

    They are sorted by name; a topic that stands under two names comes once. The text differs between Python
    versions.
    """
    texts = dict.fromkeys(topics.topics[name].strip("\n") for name in sorted(topics.topics))
    return "\n\n\n".join(texts) + "\n"


def open_source(args: DataArguments) -> Source:
    """The training text that the options name: its rows, uncleaned, and what stands between them.

    Raises:
        DataError: here or while rows are read, if there is no such source, it cannot be read, or it has no such
            column of text.
    """
    if args.train_file:
        return open_files(args.train_file, args, args.max_characters, args.streaming)
    if args.dataset_name:
        return _open_dataset(args)
    text = default_corpus()
    key = _key(text, args.sample_by, args.max_characters)
    name = "Python reference topics (pydoc_data.topics)"
    return Source(name, args.sample_by, key, lambda: _read_default(text, args))


def open_files(
    patterns: Sequence[str],
    args: DataArguments,
    max_characters: int | None = None,
    streaming: bool = False,
) -> Source:
    """Local files; see `open_source`. With `streaming` only their beginnings are checked before they are read."""
    paths = find_files(patterns)
    builder = builder_for(paths)
    paths = drop_empty(paths)
    contents = check_contents(paths, is_text=builder != "parquet", whole=not streaming)
    if streaming:  # only the beginnings were read
        contents = _key(contents, [(os.path.getsize(path), os.path.getmtime(path)) for path in paths])
    column = "text" if builder == "text" else args.text_column
    options = _builder_options(builder, paths, column)
    name = ", ".join(patterns)

    def rows() -> Iterator[Row]:
        try:
            if builder == "text":
                found = _read_text_files(paths, args)
            else:
                found = _separated(_parsed(builder, paths, column, options, name))
            yield from _at_least_one(limit(found, max_characters), name_some(paths))
        except DataError:
            raise
        except UnicodeDecodeError:
            check_contents(paths, is_text=True)  # says where
            raise
        # Parsers raise what they like; whatever it is, the user needs the file's name and the reason.
        except Exception as error:
            raise DataError(_describe_unreadable(builder, paths, options, error)) from error

    unit = args.sample_by if builder == "text" else "document"
    how = builder, column, args.sample_by, args.verbatim, args.strip_markup, max_characters
    return Source(name, unit, _key(contents, *how), rows)


def _open_dataset(args: DataArguments) -> Source:
    """`args.dataset_name` from the Hub, or a local dataset folder."""
    try:
        rows = datasets.load_dataset(
            args.dataset_name, args.dataset_config, split=args.dataset_split, streaming=args.streaming
        )
        rows = _column_of(rows, args.text_column, args.dataset_name)
    except DataError:
        raise
    # From the network to the parsers of every format: all of it ends in one sentence.
    except Exception as error:
        raise DataError(_describe_unloadable(args.dataset_name, error)) from error
    contents = _version_of(args.dataset_name) if args.streaming else rows._fingerprint
    dataset = args.dataset_name, args.dataset_config, args.dataset_split, args.text_column
    key = _key(*dataset, contents, args.max_characters)

    def read() -> Iterator[Row]:
        try:
            texts = take_texts(rows, args.text_column, args.dataset_name)
            yield from _at_least_one(limit(_separated(texts), args.max_characters), args.dataset_name)
        except DataError:
            raise
        except Exception as error:
            raise DataError(_describe_unloadable(args.dataset_name, error)) from error

    return Source(args.dataset_name, "document", key, read)


def _version_of(name: str) -> object:
    """What changes with a dataset that is not read yet: its files, or its commit on the Hub, if it tells."""
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [(str(path), path.stat().st_size, path.stat().st_mtime) for path in files]
    try:
        return HfApi().dataset_info(name).sha
    except (OSError, ValueError):
        return None


def _key(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _read_default(text: str, args: DataArguments) -> Iterator[Row]:
    return limit(read_rows(io.StringIO(text, newline=""), args.sample_by), args.max_characters)


def _read_text_files(paths: Sequence[str], args: DataArguments) -> Iterator[Row]:
    for path in paths:
        with open(path, encoding="utf-8", newline="") as file:
            rows = read_rows(file, args.sample_by, args.strip_markup)
            is_last = path == paths[-1]
            yield from rows if is_last or args.verbatim else separate(rows, SEPARATORS[args.sample_by])


def _separated(texts: Iterable[str | None]) -> Iterator[Row]:
    """Rows of texts that are documents of their own."""
    last = None
    for text in texts:
        if last is not None:
            yield from separate(cut_row(last[0], ""), SEPARATORS["document"])
        last = (text,)
    if last is not None:
        yield from cut_row(last[0], "")


def limit(rows: Iterable[Row], max_characters: int | None) -> Iterator[Row]:
    """The rows up to so many characters; the text that crosses the limit is cut there."""
    left = max_characters
    for text, separator in rows:
        if left is None or text is None:
            yield text, separator
            continue
        left -= len(text)
        yield (text, separator) if left > 0 else (text[: len(text) + left], "")
        if left <= 0:
            return


def _at_least_one(rows: Iterable[Row], source: str) -> Iterator[Row]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{source} has no rows: give data with text.")


def _parsed(builder: str, paths: Sequence[str], column: str, options: dict, name: str) -> Iterator[str | None]:
    texts = take_texts(_load(builder, paths, **options), column, name)
    while True:
        with _strict_parsers():  # left before any text is handed on: whoever takes it must hear its own warnings
            block = _first(texts, _BLOCK_CHARACTERS)
        if not block:
            return
        yield from block


def _first(texts: Iterator[str | None], characters: int) -> list[str | None]:
    """The next texts, until they have so many characters or there are no more."""
    block, size = [], 0
    for text in texts:
        block.append(text)
        size += 1 + len(text or "")
        if size >= characters:
            break
    return block


def take_texts(rows: Iterable[dict], column: str, source: str) -> Iterator[str | None]:
    """Yields the texts of rows as they come.

    Raises:
        DataError: if a row lacks the column or holds something else than a string in it.
    """
    for row in rows:
        if column not in row:
            raise DataError(_describe_missing(source, column, row))
        text = row[column]
        if isinstance(text, datetime.date):
            raise DataError(
                f"Column {column!r} of {source} holds nothing but dates or times, which the reader of JSON takes for "
                "no strings: give them as .csv or .txt."
            )
        if text is not None and not isinstance(text, str):
            raise DataError(_describe_type(source, column, f"{type(text).__name__} values"))
        yield text


@contextmanager
def _strict_parsers() -> Iterator[None]:
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # `datasets` logs what it raises, too
    try:
        with progress_bars(False), warnings.catch_warnings():
            # pandas only warns when it cuts off the fields that a header does not name
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)


def _load(builder: str, paths: Sequence[str], **options) -> IterableDataset:
    escaped = [glob.escape(path) for path in paths]
    return datasets.load_dataset(builder, data_files=escaped, split="train", streaming=True, **options)


def _builder_options(builder: str, paths: Sequence[str], column: str) -> dict:
    """What the builder is to do, after a look at the heads of the files where they name their columns."""
    if builder == "csv":
        for path in paths:
            columns = _csv_columns(path)
            _check_separator(path, column, columns)
            _check_column(path, column, columns)
        features = Features({column: Value("string")})
        # "NA" and "null" are words; a row of too many fields is an error, not an index column.
        return {"features": features, "index_col": False, "keep_default_na": False, "na_filter": False}
    if builder == "parquet":
        for path in paths:
            _check_column(path, column, _parquet_columns(path))
        return {"columns": [column]}
    return {}


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


def _column_of(rows: Dataset | IterableDataset, column: str, source: str) -> Dataset | IterableDataset:
    """The column of text alone."""
    if rows.column_names is not None:
        _check_column(source, column, rows.column_names)
        rows = rows.select_columns([column])
    if isinstance(rows, Dataset):
        kind = rows.features[column]
        if not isinstance(kind, Value) or kind.dtype not in _STRING_TYPES:
            raise DataError(_describe_type(source, column, str(kind)))
    return rows


def _check_separator(path: str, column: str, columns: Sequence[str]) -> None:
    """Raises `DataError` where the header is one field that holds another separator, and the column is in it."""
    for mark in ";\t|":
        if len(columns) == 1 and column in (names := columns[0].split(mark)) and len(names) > 1:
            raise DataError(f"{path} is separated by {mark!r}, expected commas: save it with commas.")


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
            with _strict_parsers():
                rows += sum(1 for _ in _load(builder, [path], **options))
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
