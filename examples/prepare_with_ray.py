"""The batch functions of data preparation on Ray Data, for corpora past one machine.

    pip install 'boustro[data,ray]'
    python examples/prepare_with_ray.py --input 'corpus/*.txt' --output prepared-ray

Cleaning, redaction, judging and signatures are the functions that the command `prepare` runs, unchanged: each takes
and returns a dict of columns. Ray reads the lines of the files, spreads the batches over the cluster and writes
Parquet: the lines that are kept, one row each, ready for `train.py --train-file 'prepared-ray/*.parquet'`.

Exact copies meet in a shuffle by fingerprint. Near copies are found on the machine that runs this script, from one
signature a row that lies in a file there (docs/data.md says what that takes, and what to do beyond it). Ray promises
no order of rows, so of copies the one of the lowest fingerprint is kept, not the first one.
"""

import argparse
import tempfile

import numpy as np
import ray
from ray.data.expressions import col

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.deduplication import PERMUTATIONS, group_near
from boustro.data_scripts.pipeline import clean_rows, judge_rows, redact_rows


def judge(rows: ray.data.Dataset, args: DataArguments) -> ray.data.Dataset:
    """Rows of "text" and "separator" with "verdict", "fingerprint" and "signature" as well."""
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
    if isinstance(values, np.ndarray) or not values or isinstance(values[0], int):
        return np.asarray(values)
    array = np.empty(len(values), dtype=object)  # numpy's own strings lose what is zero at their ends
    array[:] = [" ".join(value) if isinstance(value, list) else value for value in values]
    return array


def first_of_copies(batch: dict) -> dict:
    """One of the rows of equal fingerprint."""
    place = int(np.argmin(batch["text"]))
    return {name: values[place : place + 1] for name, values in batch.items()}


def without_near_copies(rows: ray.data.Dataset, threshold: float) -> np.ndarray:
    """The fingerprints of the rows that are kept, given rows without exact copies."""
    fingerprints = []
    with tempfile.NamedTemporaryFile() as file:
        for row in rows.select_columns(["fingerprint", "signature"]).sort("fingerprint").iter_rows():
            fingerprints.append(row["fingerprint"])
            file.write(row["signature"])
        file.flush()
        signatures = np.memmap(file.name, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)
        return np.array(fingerprints)[np.unique(group_near(signatures, threshold=threshold))]


def keep_rows(batch: dict, kept: ray.ObjectRef) -> dict:
    """The texts of the rows whose fingerprint is kept."""
    return {"text": batch["text"][np.isin(batch["fingerprint"], ray.get(kept))]}


def prepare(rows: ray.data.Dataset, args: DataArguments, output: str) -> int:
    """Judges rows of "text" and "separator", drops copies, writes what is left and returns how many rows that are."""
    good = judge(rows, args).filter(expr=col("verdict") == 0)
    unique = good.groupby("fingerprint").map_groups(first_of_copies, batch_format="numpy").materialize()
    kept = ray.put(without_near_copies(unique, args.near_threshold))
    left = unique.map_batches(keep_rows, fn_kwargs={"kept": kept}).materialize()
    left.write_parquet(output)
    return left.count()


def main() -> None:
    """Prepares the lines of the files; prints how many are left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", nargs="+", required=True, help="Text files, a row a line.")
    parser.add_argument("--output", required=True, help="Folder for Parquet files.")
    options = parser.parse_args()
    args = DataArguments(redact="replace", filters=["characters", "repetition", "boilerplate"])
    lines = ray.data.read_text(options.input).add_column("separator", lambda batch: ["\n"] * len(batch))
    print(prepare(lines, args, options.output))


if __name__ == "__main__":
    main()
