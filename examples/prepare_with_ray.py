"""The batch functions of data preparation on Ray Data, for corpora past one machine.

    pip install 'boustro[data,ray]'
    python examples/prepare_with_ray.py --input 'corpus/*.txt' --output prepared-ray

Cleaning, redaction, judging and signatures are the functions that the command `prepare` runs, unchanged: each takes
and returns a dict of columns. Ray reads the lines of the files, spreads the batches over the cluster and writes
Parquet: the lines that are kept, one row each, ready for `train.py --train-file 'prepared-ray/*.parquet'`.

Copies are found on the machine that runs this script, from one fingerprint and one signature a row: 1,032 bytes a row
in a file and about 60 in memory, so that 100 million rows need 100 GB of disk and 6 GB of memory there (docs/data.md).
"""

import argparse
import tempfile

import numpy as np
import ray

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.deduplication import PERMUTATIONS, group_exact, group_near
from boustro.data_scripts.pipeline import clean_rows, judge_rows, redact_rows


def judge(rows: ray.data.Dataset, args: DataArguments) -> ray.data.Dataset:
    """Rows with "number", "text" and "separator" become rows with "verdict", "fingerprint" and "signature" as well."""
    steps = [
        (clean_rows, {"rules": args.cleaning()}),
        (redact_rows, {"action": args.redact}),
        (judge_rows, {"rules": args.rules(), "drop_personal": args.redact == "drop", "near": True}),
    ]
    for function, options in steps:
        rows = rows.map_batches(keep_columns, fn_kwargs={"function": function, "options": options})
    return rows


def keep_columns(batch: dict, function, options: dict) -> dict:
    """What the function returns beside the columns that it was given, lists as plain Python values."""
    columns = {**batch, **function(batch, **options)}
    return {name: _as_array(values) for name, values in columns.items()}


def _as_array(values) -> np.ndarray:
    if isinstance(values, np.ndarray) or not len(values) or not isinstance(values[0], list):
        return np.asarray(values)
    return np.array([" ".join(names) for names in values])  # lists of names, which Ray would take for tensors


def drop_copies(judged: ray.data.Dataset, threshold: float) -> set[int]:
    """The numbers of the rows that are kept: of each group of copies the one of the lowest number."""
    marks = judged.filter(expr="verdict == 0").select_columns(["number", "fingerprint", "signature"]).sort("number")
    numbers, fingerprints = [], []
    with tempfile.NamedTemporaryFile() as file:
        for row in marks.iter_rows():
            numbers.append(row["number"])
            fingerprints.append(row["fingerprint"])
            file.write(row["signature"])
        file.flush()
        signatures = np.memmap(file.name, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)
        groups = group_near(signatures, group_exact(np.array(fingerprints)), threshold)
    return {numbers[place] for place in np.unique(groups)}


def keep_rows(batch: dict, kept: ray.ObjectRef) -> dict:
    """The texts of the rows that are kept."""
    chosen = np.isin(batch["number"], ray.get(kept))
    return {name: batch[name][chosen] for name in ("number", "text")}


def main() -> None:
    """Prepares the lines of the files; prints how many are left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", nargs="+", required=True, help="Text files, a row a line.")
    parser.add_argument("--output", required=True, help="Folder for Parquet files.")
    options = parser.parse_args()
    args = DataArguments(redact="replace", filters=["characters", "repetition", "boilerplate"])
    lines = ray.data.read_text(options.input).add_column("separator", lambda batch: ["\n"] * len(batch))
    print(prepare(lines, args, options.output))


def prepare(rows: ray.data.Dataset, args: DataArguments, output: str) -> int:
    """Judges rows of "text" and "separator", drops copies, writes what is left and returns how many rows that are."""
    numbered = rows.zip(ray.data.range(rows.count()).rename_columns({"id": "number"})).materialize()
    judged = judge(numbered, args).materialize()
    kept = ray.put(np.array(sorted(drop_copies(judged, args.near_threshold))))
    left = judged.map_batches(keep_rows, fn_kwargs={"kept": kept}).sort("number").materialize()
    left.write_parquet(output)
    return left.count()


if __name__ == "__main__":
    main()
