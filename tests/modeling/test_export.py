"""A saved folder works where boustro is not installed."""

import ast
import json
import subprocess
import sys

import pytest
import torch

from boustro import BoustroTokenizer
from tests.conftest import small_model

PROMPTS = ["", "the cat", "你好，世界", "😀 and é"]

# runs in a process in which `import boustro` fails
FRESH_PROCESS = """
import json, sys
sys.modules["boustro"] = None
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline
folder, prompts = sys.argv[1], json.loads(sys.argv[2])
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
backbone = AutoModel.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
batch = tokenizer(prompts, padding=True, return_tensors="pt")
pipe = pipeline("text-generation", model=folder, trust_remote_code=True)
texts = [pipe(p, max_new_tokens=9, do_sample=False)[0]["generated_text"] for p in prompts]
together = pipe(prompts, max_new_tokens=9, do_sample=False, batch_size=len(prompts))
print(json.dumps({
    "config": config.to_dict()["hidden_size"],
    "backbone": type(backbone).__name__,
    "ids": batch["input_ids"].tolist(),
    "logits": model(**batch).logits.double().tolist(),
    "texts": texts,
    "together": [t[0]["generated_text"] for t in together],
}))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = BoustroTokenizer.train_from_iterator(["the quick brown fox, 你好世界"])
    model = small_model(vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(folder), json.dumps(PROMPTS)],
        capture_output=True,
        text=True,
        env={"HF_MODULES_CACHE": str(tmp_path_factory.mktemp("modules")), "HF_HUB_OFFLINE": "1", "PATH": ""},
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return folder, model, tokenizer, json.loads(run.stdout.splitlines()[-1])


def test_every_auto_class_loads_without_boustro(exported):
    *_, there = exported
    assert there["config"] == 12 and there["backbone"] == "BoustroModel"


def test_same_ids_and_logits_as_here(exported):
    _, model, tokenizer, there = exported
    batch = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == there["ids"]
    here = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    real = batch["attention_mask"].bool()
    assert torch.allclose(here[real], torch.tensor(there["logits"])[real].to(here), atol=1e-6)


def test_pipeline_continues_any_prompt_alone_and_in_a_batch(exported):
    *_, there = exported
    for prompt, text in zip(PROMPTS, there["texts"], strict=True):
        assert text.startswith(prompt) and len(text) > len(prompt)
    assert there["texts"] == there["together"]


def test_the_folder_holds_code_and_no_pickle(exported):
    folder, *_ = exported
    files = {path.name for path in folder.iterdir()}
    assert "model.safetensors" in files and "modeling_boustro.py" in files and "configuration_boustro.py" in files
    assert "tokenization_boustro.py" not in files
    assert not {name for name in files if name.endswith((".bin", ".pt", ".pkl"))}
    assert set(json.loads((folder / "config.json").read_text())["auto_map"]) == {
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
    }


ALLOWED_IMPORTS = {
    "__future__",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "functools",
    "itertools",
    "json",
    "math",
    "pathlib",
    "weakref",
}
ALLOWED_IMPORTS |= {"typing", "huggingface_hub", "numpy", "safetensors", "tokenizers", "torch", "transformers"}
FORBIDDEN_FUNCTIONS = {"open", "exec", "eval", "compile", "__import__"}
FORBIDDEN_METHODS = {"load", "loads", "open", "system", "Popen", "read_text", "read_bytes", "urlopen", "write_text"}


def test_the_code_in_a_checkpoint_does_what_the_card_says(exported):
    """No connection, no process, no file, no pickle: its imports and calls are those of a network."""
    folder, *_ = exported
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED_IMPORTS, path.name
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] in ALLOWED_IMPORTS, path.name
            if isinstance(node, ast.Call):
                function = isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_FUNCTIONS
                method = isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS
                assert not (function or method), f"{path.name}:{node.lineno}: {ast.unparse(node)}"
