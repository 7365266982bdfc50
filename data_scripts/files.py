"""Finds and checks input files before they are parsed, so that what is wrong is said by name."""

import codecs
import glob
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from .encoding_guess import guess_encoding
from .errors import DataError

logger = logging.getLogger(__name__)

BUILDERS = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}  # of `datasets`; all else is plain text
NOT_TEXT = {
    ".json": "save it as .jsonl, one object a line",
    ".tsv": "save it as .csv",
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".7z"), "unpack it"),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".epub"), "save it as plain text"),
}
REPORT = "report.json"  # the last file that the command `prepare` writes
_BLOCK = 1 << 20
_SAMPLE = 1 << 16
_MOST_DAMAGE = 0.1  # share of undecodable characters up to which text is damaged UTF-8


def check_checkpoint(name: str) -> None:
    """Raises `DataError` for a checkpoint that is neither a folder nor a Hub id, before anything asks the network."""
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise DataError(f"checkpoint {name}: the folder holds no model (config.json is missing).")
    elif name.count("/") != 1:
        raise DataError(f"checkpoint {name}: there is no such folder, and a Hub id would have the form user/name.")
    elif (parent := Path(name).parent).is_dir():
        found = ", ".join(sorted(path.name for path in parent.iterdir() if path.is_dir())[:8]) or "none"
        raise DataError(
            f"checkpoint {name}: there is no such folder; the folders in {parent} are: {found} (for a Hub id, "
            "start where no folder has its user's name)."
        )


def read_report(folder: Path) -> dict:
    """The report of a prepared folder.

    Raises:
        DataError: if it is none, or was not finished.
    """
    if not folder.is_dir():
        raise DataError(f"prepared {folder}: there is no such folder.")
    if not (folder / REPORT).is_file():
        raise DataError(
            f"prepared {folder}: the folder holds no finished preparation ({REPORT} is missing): run "
            f"python -m boustro.data_scripts.prepare --output {folder} again."
        )
    return json.loads((folder / REPORT).read_text(encoding="utf-8"))


def find_files(patterns: Sequence[str]) -> list[str]:
    """Expands paths and globs to files: patterns in their order, the matches of one sorted, none twice.

    Raises:
        DataError: for a file that is missing, a directory, a glob without a match.
    """
    return list(dict.fromkeys(path for pattern in patterns for path in _expand(os.path.expanduser(pattern))))


def builder_for(paths: Sequence[str]) -> str:
    """Returns the `datasets` builder that reads the files, by their extension; one that is not known is plain text.

    Raises:
        DataError: for an extension that stands for no text, or for files of different kinds.
    """
    builders = {}
    for path in paths:
        extension = Path(path).suffix.lower()
        if extension in NOT_TEXT:
            raise DataError(
                f"{path} has the extension {extension}, expected plain text (.txt or any other name), "
                f"{', '.join(BUILDERS)}: {NOT_TEXT[extension]}."
            )
        builders.setdefault(BUILDERS.get(extension, "text"), path)
    if len(builders) > 1:
        raise DataError(
            f"The files are of different kinds, for example {' and '.join(builders.values())}, expected one "
            "kind: convert some, or choose with a glob such as 'data/*.txt'."
        )
    return next(iter(builders))


def drop_empty(paths: Sequence[str]) -> list[str]:
    """Leaves out files of no bytes, with a warning.

    Raises:
        DataError: if all of them are empty.
    """
    kept = [path for path in paths if os.path.getsize(path) > 0]
    dropped = [path for path in paths if path not in set(kept)]
    if not kept:
        raise DataError(f"{name_some(dropped)} is empty (0 bytes): give a file with text.")
    if dropped:
        logger.warning("Skipped %d empty file(s): %s", len(dropped), name_some(dropped))
    return kept


def check_contents(paths: Sequence[str], *, is_text: bool, whole: bool = True) -> str:
    """Reads the files once and returns a key of their contents, 16 hexadecimal digits.

    Args:
        is_text: whether they must be UTF-8 text.
        whole: False to look at the first MiB of each only.

    Raises:
        DataError: for a file that cannot be read, holds NUL bytes or is not UTF-8.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        try:
            with open(path, "rb") as file:
                blocks = iter(lambda file=file: file.read(_BLOCK), b"") if whole else [file.read(_BLOCK)]
                for block in _checked(blocks, path, whole) if is_text else blocks:
                    digest.update(block)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def _expand(pattern: str) -> list[str]:
    path = Path(pattern)
    if path.is_dir():
        raise DataError(f"{pattern} is a directory, expected files: give a glob such as '{path / '*.txt'}'.")
    if path.exists():
        return [pattern]
    if not glob.has_magic(pattern):
        raise DataError(f"{pattern} does not exist (looked for in {Path.cwd()}): check the path.")
    matches = sorted(match for match in glob.glob(pattern, recursive=True) if os.path.isfile(match))
    if not matches:
        raise DataError(f"No file matches {pattern} (looked for in {Path.cwd()}): check the pattern.")
    return matches


def _checked(blocks: Iterable[bytes], path: str, whole: bool) -> Iterable[bytes]:
    """Hands the blocks of a file on as long as they are UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    size = lines = 0
    try:
        for block in blocks:
            if b"\0" in block:
                raise DataError(_describe_nul(path, block, size))
            size += len(block)
            decoder.decode(block)
            lines += block.count(b"\n")
            yield block
        decoder.decode(b"", final=whole)
    except UnicodeDecodeError as error:
        raise DataError(_describe_undecodable(path, error, size, lines)) from error


def _describe_nul(path: str, block: bytes, offset: int) -> str:
    if offset == 0 and (encoding := guess_encoding(block[:_SAMPLE])):
        return _describe_encoding(path, encoding)
    return (
        f"{path} holds a NUL byte at byte {offset + block.index(0)}: it is a binary file, not text. "
        "Give plain text in UTF-8."
    )


def _describe_undecodable(path: str, error: UnicodeDecodeError, size: int, lines: int) -> str:
    # error.object is the block with what was left over of the one before it; `size` counts up to its end.
    offset = size - len(error.object) + error.start
    line = lines + error.object.count(b"\n", 0, error.start) + 1
    sample = _read_around(path, offset)
    place = f"byte 0x{error.object[error.start]:02X} at byte {offset} (line {line})"
    if _is_damaged_utf8(sample):
        return (
            f"{path} is damaged UTF-8: {place}, {error.reason}. "
            f"Mend the file, or drop such bytes: {_iconv(path, 'UTF-8', '-c ')}"
        )
    if encoding := guess_encoding(sample):
        return _describe_encoding(path, encoding)
    return f"{path} is not UTF-8 text: {place}, {error.reason}. Give plain text in UTF-8."


def _describe_encoding(path: str, encoding: str) -> str:
    return (
        f"{path} is not UTF-8; it looks like {encoding}. Save it as UTF-8 in an editor, or convert it: "
        f"{_iconv(path, encoding)}"
    )


def _read_around(path: str, offset: int) -> bytes:
    """Some bytes before and behind an offset, from the start of a line where there is one."""
    start = max(0, offset - _SAMPLE)
    with open(path, "rb") as file:
        file.seek(start)
        sample = file.read(2 * _SAMPLE)
    return sample[sample.find(b"\n", 0, offset - start) + 1 :] if start else sample


def _is_damaged_utf8(sample: bytes) -> bool:
    other = [character for character in sample.decode("utf-8", "replace") if character > "\x7f"]
    return other.count("\ufffd") <= max(1, _MOST_DAMAGE * len(other)) < len(other)


def _iconv(path: str, encoding: str, option: str = "") -> str:
    target = Path(path).with_suffix(f".utf8{Path(path).suffix}")
    return f"iconv {option}-f {encoding} -t UTF-8 {shlex.quote(path)} > {shlex.quote(str(target))}"


def name_some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (" ..." if len(paths) > 3 else "")
