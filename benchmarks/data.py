"""Speed of every step of data preparation, of the whole command, and its peak memory.

    python -m benchmarks.data --data 红楼梦.txt state_union.txt --megabytes 20
    python -m benchmarks.data --data 红楼梦.txt state_union.txt --memory 100 1000

The text is made from the files by repeating and perturbing them: in every copy but the first, three characters in ten
are exchanged with others of the text, so that the paragraphs are no near copies. Figures are MB of UTF-8 a second.

Steps run in this process on batches as `datasets.map` makes them, without reading and writing; beside them the
obvious alternatives: `tokenizers` for encoding, `datasketch` for MinHash signatures. `prepare, N processes` is the
command from the file to the folder, start of the interpreter included.

`--memory` measures no speeds: it runs the command in two processes on texts of so many MB (the disk must hold fifteen
times the largest) and prints the peak over time of the memory of all its processes: `anonymous` is what they hold,
`resident` counts the pages of memory-mapped files too, which the system takes back when it needs them. `index` is the
part of near-copy search, per kept row. Linux only.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import datasketch
import numpy as np
import psutil

from benchmarks.common import print_json, print_table
from boustro.data_scripts.arguments import QUALITY_RULES, DataArguments
from boustro.data_scripts.cleaning import Cleaning, clean_batch
from boustro.data_scripts.deduplication import NGRAM, PERMUTATIONS, normal_form, signatures
from boustro.data_scripts.encoding import CharacterEncoder
from boustro.data_scripts.filters import judge
from boustro.data_scripts.mapping import BATCH_ROWS
from boustro.data_scripts.reading import read_rows
from boustro.data_scripts.redaction import redact_batch
from boustro.data_scripts.segmentation import word_starts_of_rows
from boustro.tokenization_boustro import BoustroTokenizer

MB = 1_000_000
PERTURBED = 0.3
ALTERNATIVE_MB = 2  # the slow alternatives are timed on so much
POLL = 0.1  # seconds


def synthesise(paths: list[str], megabytes: float, target: Path) -> None:
    """Writes a text of so many MB."""
    text = "\n\n".join(Path(path).read_text(encoding="utf-8") for path in paths)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    letters = np.flatnonzero((codes > 32) & (codes != 0x3000))
    rng = np.random.default_rng(0)
    left = int(megabytes * MB)
    with open(target, "wb") as file:
        for number in itertools.count():
            copy = codes.copy()
            if number:
                places = letters[rng.random(len(letters)) < PERTURBED]
                copy[places] = codes[rng.choice(letters, len(places))]
            block = copy.tobytes().decode("utf-32-le").encode("utf-8") + b"\n\n"
            file.write(block[:left].decode("utf-8", "ignore").encode("utf-8"))
            left -= len(block)
            if left <= 0:
                return


def batches(path: Path, limit: float) -> list[dict]:
    """The first paragraphs of a text, so many MB of them, as `datasets.map` hands them to a batch function."""
    with open(path, encoding="utf-8", newline="") as file:
        sizes = 0
        texts = []
        for text, _ in read_rows(file, "paragraph"):
            texts.append(text)
            sizes += len(text.encode("utf-8"))
            if sizes >= limit * MB:
                break
    return [{"text": texts[start : start + BATCH_ROWS]} for start in range(0, len(texts), BATCH_ROWS)]


def speed(function: Callable[[dict], object], over: list[dict], rounds: int) -> float:
    """MB a second, the best of some rounds."""
    size = sum(len(text.encode("utf-8")) for batch in over for text in batch["text"]) / MB
    best = 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        for batch in over:
            function(batch)
        best = max(best, size / (time.perf_counter() - started))
    return best


def with_datasketch(batch: dict) -> None:
    """The same signatures with the other library."""
    for text in map(normal_form, batch["text"]):
        sketch = datasketch.MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([text[start : start + NGRAM].encode() for start in range(max(1, len(text) - NGRAM + 1))])


def measure_steps(path: Path, megabytes: float, rounds: int) -> dict[str, dict]:
    """MB a second of every step and of the alternatives."""
    own, few = batches(path, megabytes), batches(path, min(megabytes, ALTERNATIVE_MB))
    tokenizer = BoustroTokenizer.train_from_iterator(text for batch in own for text in batch["text"])
    encoder = CharacterEncoder(tokenizer)
    rules = DataArguments(filters=list(QUALITY_RULES)).rules()
    steps = {
        "clean": partial(clean_batch, rules=Cleaning()),
        "filter": lambda batch: [judge(text, rules) for text in batch["text"]],
        "redact": redact_batch,
        "signatures (rensa)": lambda batch: signatures(batch["text"]),
        "segment": lambda batch: word_starts_of_rows(batch["text"]),
        "encode": lambda batch: [encoder.encode(text) for text in batch["text"]],
        "segment and encode": encoder.encode_batch,
    }
    alternatives = {
        "signatures (datasketch)": with_datasketch,
        "encode (tokenizers)": lambda batch: tokenizer.backend_tokenizer.encode_batch_fast(
            batch["text"], add_special_tokens=False
        ),
    }
    speeds = {name: speed(step, own, rounds) for name, step in steps.items()}
    speeds |= {name: speed(step, few, 1) for name, step in alternatives.items()}
    return {name: {"MB/s": value} for name, value in speeds.items()}


def command(path: Path, output: Path, processes: int) -> list[str]:
    """The command line of a preparation."""
    call = [sys.executable, "-m", "boustro.data_scripts.prepare", "--input", str(path), "--output", str(output)]
    return [*call, "--num-proc", str(processes), "--input-mode", "documents"]


def watch(process: psutil.Popen) -> dict[str, int]:
    """Waits for the end of a process; the highest sums of memory over it and its children, in bytes."""
    peaks = {"anonymous": 0, "resident": 0}
    while process.poll() is None:
        fields = [_status(one.pid) for one in _family(process)]
        for name, key in (("anonymous", "RssAnon"), ("resident", "VmRSS")):
            peaks[name] = max(peaks[name], sum(field.get(key, 0) for field in fields))
        time.sleep(POLL)
    return peaks


def _family(process: psutil.Popen) -> Iterator[psutil.Process]:
    yield process
    try:
        yield from process.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _status(pid: int) -> dict[str, int]:
    """Bytes by name from /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.startswith(("RssAnon", "VmRSS")))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in fields}


def run(path: Path, processes: int) -> dict[str, float]:
    """Seconds, MB a second, peaks in MB and rows of one run of the command in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "prepared"
        started = time.perf_counter()
        errors = open(Path(folder) / "errors", "w+", encoding="utf-8")  # noqa: SIM115 - a pipe would fill up
        process = psutil.Popen(command(path, output, processes), stdout=subprocess.DEVNULL, stderr=errors)
        peaks = watch(process)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"the command failed on {path}:\n{errors.read()[-2000:]}")
        seconds = time.perf_counter() - started
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "MB/s": path.stat().st_size / MB / seconds,
        **{f"{name} MB": value / MB for name, value in peaks.items()},
        "rows": report["kept"]["rows"],
    }


def measure_memory(data: list[str], megabytes: float, path: Path) -> dict[str, float]:
    """A run of the command in two processes on a text of so many MB, written to `path`."""
    synthesise(data, megabytes, path)
    return run(path, 2)


def index_bytes(rows: int) -> dict[str, float]:
    """Peak memory of the search for near copies, bytes a row beside the signatures, which lie in a file."""
    program = f"""
import tempfile, threading
import numpy as np
from benchmarks.data import _status
from boustro.data_scripts.deduplication import PERMUTATIONS, group_near
import os, time
with tempfile.NamedTemporaryFile() as file:
    rng = np.random.default_rng(0)
    for _ in range({rows} // 10_000):
        rng.integers(0, 2**32, (10_000, PERMUTATIONS), dtype=np.uint32).tofile(file)
    file.flush()
    values = np.memmap(file.name, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)
    del _, rng
    before, peak, done = _status(os.getpid())["RssAnon"], 0, False
    def watch():
        global peak
        while not done:
            peak = max(peak, _status(os.getpid())["RssAnon"])
            time.sleep(0.002)
    thread = threading.Thread(target=watch); thread.start()
    started = time.perf_counter()
    group_near(values, np.full(len(values), 600, dtype=np.int32))
    seconds = time.perf_counter() - started
    done = True; thread.join()
    print((peak - before) / len(values), seconds)
"""
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    return {"rows": rows, "bytes/row": float(out[0]), "seconds": float(out[1])}


def main() -> None:
    """Prints a row for each step and run, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help="Text files to make the text from.")
    parser.add_argument("--megabytes", type=float, default=20, help="Size of the text for the speeds.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds of each step; the best counts.")
    parser.add_argument("--memory", type=float, nargs="*", default=[], help="Sizes in MB for the peak of memory.")
    parser.add_argument("--index-rows", type=int, default=1_000_000, help="Rows for the bytes of the index.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        if options.memory:
            rows = {f"memory at {size:g} MB": measure_memory(options.data, size, path) for size in options.memory}
            rows["index of near copies"] = index_bytes(options.index_rows)
        else:
            synthesise(options.data, options.megabytes, path)
            rows = measure_steps(path, options.megabytes, options.rounds)
            rows |= {"prepare, 1 process": run(path, 1), "prepare, 2 processes": run(path, 2)}
    print_table(rows)
    print_json(rows)


if __name__ == "__main__":
    main()
