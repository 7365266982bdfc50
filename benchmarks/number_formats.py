"""What bf16 and int8 weights cost in bits per character, and what they save.

    python -m benchmarks.number_formats runs/names --data held_out.txt --texts 500

Scores the first `--texts` lines in every format with the same draws of the latents: `bits` per character (the ELBO;
with `--samples` the importance-weighted bound), `cost` against float32, `weights_mb` in memory, and characters a
second of `generate()` (sampling, 256 new ones) at batch 1 and 64.
"""

import argparse
import math
import time
from itertools import islice

import torch
from torch import nn

from benchmarks.common import parser, print_json, print_table
from boustro import BoustroForCausalLM
from boustro.commands.common import DTYPES, load


def bits(model: BoustroForCausalLM, texts: list[str], tokenizer, samples: int | None) -> float:
    """Bits per character of all texts together."""
    torch.manual_seed(0)
    scores = [model.score(texts[i : i + 50], samples, tokenizer=tokenizer) for i in range(0, len(texts), 50)]
    nats, characters = (sum(float(score[name].sum()) for score in scores) for name in ("nats", "characters"))
    return nats / characters / math.log(2)


def weight_bytes(model: BoustroForCausalLM, dtype: str) -> int:
    """Bytes of all weights of a float32 model in another format; int8 is that of the matrices of its layers."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    total = 0
    for parameter in model.parameters():
        in_layer = parameter.dim() == 2 and id(parameter) not in embeddings
        total += parameter.numel() * {"float32": 4, "bfloat16": 2, "int8": 1 if in_layer else 4}[dtype]
    return total


def speed(model: BoustroForCausalLM, rows: int, new: int = 256) -> float:
    """Characters a second of `generate()`."""
    start_ids = torch.full((rows, 1), model.config.bos_token_id)
    options = {
        "attention_mask": torch.ones_like(start_ids),
        "do_sample": True,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    model.generate(start_ids, max_new_tokens=8, **options)
    start = time.perf_counter()
    model.generate(start_ids, max_new_tokens=new, **options)
    return rows * new / (time.perf_counter() - start)


def main() -> None:
    """Prints a row for every format, then the JSON line."""
    data = "a text file that was not trained on, a text a line"
    arguments = parser("number_formats", __doc__, data, seeds=None, devices=("cpu",))
    arguments.add_argument("model", help="Folder or Hub id of a boustro model.")
    arguments.add_argument("--texts", type=int, default=500)
    arguments.add_argument("--samples", type=int)
    options = arguments.parse_args()
    with open(options.data, encoding="utf-8") as file:
        texts = list(islice((line.rstrip("\n") for line in file if line.strip()), options.texts))
    rows, exact = {}, None
    for dtype in DTYPES:
        asked = argparse.Namespace(model=options.model, device="cpu", dtype=dtype, seed=0, batch_size=1)
        model, tokenizer = load(asked)
        exact = exact or model
        size = weight_bytes(exact, dtype) / 2**20
        rows[dtype] = {"bits": bits(model, texts, tokenizer, options.samples), "weights_mb": size}
        rows[dtype] |= {f"batch_{count}": speed(model, count) for count in (1, 64)}
    for row in rows.values():
        row["cost"] = row["bits"] - rows["float32"]["bits"]
    print_table(rows)
    print_json(rows, texts=len(texts), samples=options.samples)


if __name__ == "__main__":
    main()
