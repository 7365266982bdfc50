"""What the READMEs tell a reader to type works."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from boustro.evaluation.__main__ import main as evaluate
from boustro.training import push
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
    assert len(commands) == 7
    for command in commands:
        assert parse_arguments(shlex.split(command)).train.output_dir.startswith("runs/")


def test_evaluation_and_push_commands_are_the_same_in_both_and_run(home, monkeypatch, capsys):
    pattern = r"\.venv/bin/python -m boustro\.(evaluation|training\.push) (.*)$"
    commands, chinese = (re.findall(pattern, readme.read_text(encoding="utf-8"), flags=re.M) for readme in READMES)
    assert commands == chinese and len(commands) == 5
    monkeypatch.chdir(home)
    for name in ("mine", "plain", "wide"):
        shutil.copytree("runs/demo", f"runs/{name}")
    for name in ("mytext.txt", "held_out.txt"):
        shutil.copy("text.txt", name)
    for module, words in commands:
        argv = shlex.split(words)
        if module == "training.push":  # there is no Hub here
            hub, options = push.parse(argv)
            assert (hub.hub_model_id, options.folder.as_posix()) == ("user/name", "runs/mine")
            continue
        small = ["--samples", "2", "--sample-characters", "9"] if "safety" in argv else ["--samples", "2"]
        assert evaluate([*argv, *small]) == 0
    card = (home / "runs" / "mine" / "README.md").read_text(encoding="utf-8")
    assert "## Evaluation on held_out.txt" in card and "Beside baselines" in card and "2 samples: the longest" in card


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_file_tree_is_complete(readme):
    text = readme.read_text(encoding="utf-8")
    for folder in ("modeling", "data_scripts", "training", "evaluation", "commands", "export"):
        for path in (ROOT / folder).glob("*.py"):
            assert path.name == "__init__.py" or path.name in text, path
