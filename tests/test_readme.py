"""What the READMEs tell a reader to type works."""

import re
import shlex
from pathlib import Path

import pytest

from boustro.training.arguments import parse_arguments
from boustro.training.run import main
from tests.training.conftest import flags, make_text

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README_zh.md"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a trained model where the READMEs have it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text(make_text(4000), encoding="utf-8")
    assert main(flags(folder / "text.txt", folder / "runs" / "demo", max_steps=2)) == 0
    return folder


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_snippets_run(readme, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    snippets = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.S)
    assert len(snippets) == 3
    names = {}
    for snippet in snippets:
        exec(re.sub(r"max_new_tokens=\d+", "max_new_tokens=5", snippet), names)
    assert names["output"].loss.isfinite() and "The" in capsys.readouterr().out


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_training_commands_parse(readme):
    commands = re.findall(r"\.venv/bin/python train\.py (.*?)(?:`|$)", readme.read_text(encoding="utf-8"), flags=re.M)
    assert len(commands) == 6
    for command in commands:
        assert parse_arguments(shlex.split(command)).train.output_dir.startswith("runs/")


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_file_tree_is_complete(readme):
    text = readme.read_text(encoding="utf-8")
    for folder in ("modeling", "data_scripts", "training", "evaluation", "commands", "export"):
        for path in (ROOT / folder).glob("*.py"):
            assert path.name == "__init__.py" or path.name in text, path
