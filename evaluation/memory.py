"""What a model takes of a computer's memory when it is used."""

import re
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

WRITTEN = 256  # characters
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory_of_use(checkpoint: str) -> float | None:
    """MiB by which this process's peak rises while the model is loaded and writes `WRITTEN` characters on the CPU.

    What Python and its libraries take is not in it, if a model was loaded before. None where the system does not tell:
    only Linux resets a peak.
    """
    try:
        CLEAR.write_text("5")
        before = _peak()
    except OSError:
        return None
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    with torch.random.fork_rng(devices=[]):
        options = {"do_sample": True, "top_k": 0, "pad_token_id": model.config.pad_token_id}
        start = torch.tensor([[model.config.bos_token_id]])
        model.generate(start, min_new_tokens=WRITTEN, max_new_tokens=WRITTEN, **options)
    return _peak() - before


def _peak() -> float:
    """The largest resident memory of this process, MiB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()).group(1)) / 1024
