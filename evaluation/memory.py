"""What a model takes of a computer's memory when it is used."""

import json
import os
import subprocess
import sys
from pathlib import Path

# Linux keeps a process's peak of resident memory here, in KiB
STATUS = Path("/proc/self/status")
WRITING = """
import json, re, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
import boustro

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024

before = peak()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
start = torch.tensor([[model.config.bos_token_id]])
model.generate(start, min_new_tokens=256, max_new_tokens=256, do_sample=True, pad_token_id=model.config.pad_token_id)
print(json.dumps([before, peak()]))
"""


def memory_of_use(checkpoint: str) -> dict[str, float | None]:
    """The peak of resident memory, MiB, of a process that loads a model and writes 256 characters on the CPU.

    Returns `memory_mib` and, of it, `libraries_mib`, the peak before the model was loaded: Python, torch and
    transformers. Both are None where the system does not tell (only Linux does) or the process fails.
    """
    figures = dict.fromkeys(("libraries_mib", "memory_mib"))
    if not STATUS.is_file():
        return figures
    # a graphics card would hold what is to be measured
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", WRITING, checkpoint]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return figures
    return dict(zip(figures, json.loads(done.stdout.splitlines()[-1]), strict=True))
