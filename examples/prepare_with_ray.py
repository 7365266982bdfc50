"""The batch functions of data preparation on Ray Data, for corpora past one machine.

    pip install 'boustro[data,ray]'
    python examples/prepare_with_ray.py --input 'corpus/*.txt' --output prepared-ray

Cleaning, redaction, judging and signatures are the functions that the command `prepare` runs, unchanged: each takes
and returns a dict of columns. Ray reads the lines of the files, spreads the batches over the cluster and writes
Parquet: the lines that are kept, one row each, ready for `train.py --train-file 'prepared-ray/*.parquet'`.

Copies are found on the machine that runs this script, from one fingerprint and one signature a row; the signatures lie
in a file there (docs/data.md says what that takes, and what to do beyond it). Ray promises no order of rows, so of
copies the one of the lowest fingerprint is kept, not the first one.
"""

import argparse
import tempfile

import numpy as np
import ray
from ray.data.expressions import col

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.deduplication import PERMUTATIONS, group_exact, group_near
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
    return rows.map_batches(number_rows).materialize()


def number_rows(batch: dict) -> dict:
    """The batch with a random number of 63 bits for each row, by which it is known from now on."""
    return {**batch, "number": np.random.default_rng().integers(2**63 - 1, size=len(batch["text"]))}


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


def without_copies(rows: ray.data.Dataset, threshold: float) -> np.ndarray:
    """The numbers of the rows that are kept."""
    names = ["number", "fingerprint", "length"]
    marks = rows.select_columns([*names, "signature"]).sort("fingerprint")
    batches = []
    with tempfile.NamedTemporaryFile() as file:
        for batch in marks.iter_batches(batch_size=10_000, batch_format="numpy"):
            file.write(b"".join(batch["signature"]))
            batches.append([batch[name].copy() for name in names])  # a view would hold the signatures too
        file.flush()
        numbers, fingerprints, lengths = map(np.concatenate, zip(*batches, strict=True))
        del batches
        signatures = np.memmap(file.name, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)
        groups = group_near(signatures, lengths, group_exact(fingerprints), threshold)
    return numbers[np.unique(groups)]


def keep_rows(batch: dict, kept: ray.ObjectRef) -> dict:
    """The texts of the rows whose numbers are kept."""
    return {"text": batch["text"][np.isin(batch["number"], ray.get(kept))]}


def prepare(rows: ray.data.Dataset, args: DataArguments, output: str) -> int:
    """Judges rows of "text" and "separator", drops copies, writes what is left and returns how many rows that are."""
    good = judge(rows, args).filter(expr=col("verdict") == 0)
    kept = without_copies(good, args.near_threshold)
    good.map_batches(keep_rows, fn_kwargs={"kept": ray.put(kept)}).write_parquet(output)
    return len(kept)


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
