"""A wheel built from the repository works without it: recipes and card template travel inside."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("modeling", "data_scripts", "training", "evaluation", "commands", "export", "configs")
FILES = ("pyproject.toml", "README.md", "LICENSE", "model_card.md")
TEXT = "The quick brown fox jumps over the lazy dog. 你好，世界。\n" * 40

LOAD = """
import sys
import boustro
from transformers import AutoModelForCausalLM, pipeline
assert sys.prefix in boustro.__file__, boustro.__file__
AutoModelForCausalLM.from_pretrained("run")
print(pipeline("text-generation", model="run")("The", max_new_tokens=5)[0]["generated_text"])
"""


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a new environment that holds the wheel; dependencies are borrowed from this one."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, source / file)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), ".", cwd=source)
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    run(*pip, "install", "--no-deps", "--target", str(packages), *map(str, wheels.glob("*.whl")), cwd=source)
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return Path(sysconfig.get_path("scripts", vars={"base": str(home)})) / Path(sys.executable).name


def test_the_wheel_trains_saves_and_loads_outside_the_checkout(python, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    sizes = ["--hidden-size", "16", "--segment-length", "32", "--window-length", "32", "--batch-size", "4"]
    run(
        str(python), "-m", "boustro.training", "--config", "small", "--train-file", "text.txt",
        "--output-dir", "run", "--max-steps", "2", "--cpu", *sizes, cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert "${" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert run(str(python), "-c", LOAD, cwd=tmp_path).strip().startswith("The")
