"""Memory of many generations, of a very long prompt, and of a batch of uneven prompts.

    python -m benchmarks.load --data input.txt --generations 1000 --prompt-characters 1000000

Random weights of the preset `small`: memory does not depend on what they have learnt. `growth_mb` is what the process
grew by from generation 100 to the last (each 64 characters, sampled); `prompt_mb` by how much the peak rises while
a prompt of so many characters is read, beside `prompt_tenth_mb`, that of a tenth of it; the ids themselves and the
latents of the prompt's segments are all that grows with it. Memory is resident memory, in MiB.
"""

import itertools
import threading
import time
from pathlib import Path

import psutil
import torch

from benchmarks.common import parser, print_json, print_table
from benchmarks.generation import boustro_config
from boustro import BoustroForCausalLM, BoustroTokenizer


def resident() -> float:
    """Resident memory of this process, MiB."""
    return psutil.Process().memory_info().rss / 2**20


class Peak:
    """The largest resident memory within a `with` block, as `risen`, MiB above that at its start."""

    def __enter__(self) -> "Peak":
        self.start, self.risen, self.over = resident(), 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        """Looks twenty times a second."""
        while not self.over.wait(0.05):
            self.risen = max(self.risen, resident() - self.start)

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def many_generations(model: BoustroForCausalLM, ids: torch.Tensor, count: int) -> float:
    """By how much the process grows from generation 100 to generation `count`, MiB."""
    early = 0.0
    for turn in range(count):
        model.generate(ids, max_new_tokens=64, do_sample=True, pad_token_id=0)
        if turn == min(100, count // 2):
            early = resident()
    return resident() - early


def long_prompt(model: BoustroForCausalLM, ids: torch.Tensor, length: int) -> tuple[float, float]:
    """By how much the peak rises for a prompt of `length` ids, MiB, and the seconds it takes."""
    prompt = ids.repeat(-(-length // len(ids)))[:length][None]
    start = time.perf_counter()
    with Peak() as peak:
        model.generate(prompt, max_new_tokens=1, do_sample=True, pad_token_id=0)
    return peak.risen, time.perf_counter() - start


def uneven(model: BoustroForCausalLM, ids: torch.Tensor, rows: int = 64) -> float:
    """Seconds for a left-padded batch of prompts of 1 to 640 characters, 64 new ones each."""
    lengths = list(itertools.islice(itertools.cycle(range(1, 641, 71)), rows))
    batch = torch.stack([torch.nn.functional.pad(ids[:n], (max(lengths) - n, 0)) for n in lengths])
    mask = torch.stack([(torch.arange(max(lengths)) >= max(lengths) - n).long() for n in lengths])
    start = time.perf_counter()
    model.generate(batch, attention_mask=mask, max_new_tokens=64, do_sample=True, pad_token_id=0)
    return time.perf_counter() - start


def main() -> None:
    """Prints a row and the JSON line."""
    arguments = parser("load", __doc__, "a text file, for the prompts", seeds=None, devices=("cpu",))
    arguments.add_argument("--generations", type=int, default=1000)
    arguments.add_argument("--prompt-characters", type=int, default=1_000_000)
    options = arguments.parse_args()
    text = Path(options.data).read_text(encoding="utf-8")[:100_000]
    tokenizer = BoustroTokenizer.train_from_iterator([text])
    ids = torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)
    torch.manual_seed(0)
    model = BoustroForCausalLM(boustro_config("small", len(tokenizer))).eval()
    model.generation_config.eos_token_id = None
    row = {"growth_mb": many_generations(model, ids[None, :32], options.generations)}
    row["prompt_tenth_mb"], row["prompt_tenth_s"] = long_prompt(model, ids, options.prompt_characters // 10)
    row["prompt_mb"], row["prompt_s"] = long_prompt(model, ids, options.prompt_characters)
    row["uneven_64_s"] = uneven(model, ids)
    print_table({"small": row})
    print_json(row, generations=options.generations, prompt_characters=options.prompt_characters)


if __name__ == "__main__":
    main()
