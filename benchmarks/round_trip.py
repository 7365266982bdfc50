"""Whether `prepare --verbatim` keeps files byte for byte, through the folder that it writes.

    python -m benchmarks.round_trip --data enwiki_head.xml songci.txt 红楼梦.txt luxun.txt tiny_stories.txt

Each file goes through the command by itself, its rows are decoded from their ids by the tokenizer in the folder, split
after split, and the bytes are compared with those of the file. `in bytes` counts the characters that the vocabulary,
that of the training split, does not have. Exits with 1 if a file came back otherwise.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import datasets
from transformers import AutoTokenizer

from benchmarks.common import print_json, print_table
from boustro.data_scripts.pipeline import SPLITS
from boustro.data_scripts.prepare import main as prepare_command


def measure(path: Path) -> dict[str, float]:
    """The sizes of a file and of what came of it, and whether it came back."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            status = prepare_command(["--input", str(path), "--output", folder, "--verbatim"])
        if status != 0:
            raise SystemExit(f"{path} could not be prepared.")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        splits = datasets.load_from_disk(folder)
        rows = [row for name in SPLITS if name in splits for row in splits[name]]
        decoded = "".join(tokenizer.batch_decode([row["input_ids"] for row in rows])).encode("utf-8")
    content = path.read_bytes()
    return {
        "bytes": len(content),
        "rows": len(rows),
        "ids": sum(len(row["input_ids"]) for row in rows),
        "in bytes": sum(row["unknown_characters"] for row in rows),
        "equal": decoded == content,
    }


def main() -> None:
    """Prints a row for each file, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_trip", description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="Text files.")
    options = parser.parse_args()
    rows = {path.name: measure(path) for path in options.data}
    print_table(rows)
    print_json(rows)
    if not all(row["equal"] for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
