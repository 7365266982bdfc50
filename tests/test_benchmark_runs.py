"""What the benchmarks share: finished runs that are used again, and their options."""

import json

import pytest

from benchmarks import common
from boustro.training import run
from boustro.training.arguments import ARGUMENTS_FILE
from tests.training.conftest import flags, make_text


def test_a_finished_run_is_used_again_for_the_same_options_only(tmp_path, monkeypatch):
    text_file = tmp_path / "text.txt"
    text_file.write_text(make_text(4_000), encoding="utf-8")
    monkeypatch.setattr(run, "SAMPLE_CHARACTERS", 12)
    folder = tmp_path / "run"
    assert run.main(flags(text_file, folder, max_steps=1)) == 0
    assert common.train_folder(folder, flags(text_file, folder, max_steps=1))["steps"] == 1
    with pytest.raises(SystemExit, match=r"holds a run with max_steps 1, expected 2: delete it"):
        common.train_folder(folder, flags(text_file, folder, max_steps=2))
    # a run of a version with other options
    file, wanted = folder / ARGUMENTS_FILE, flags(text_file, folder, max_steps=1)
    stored = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({name: value for name, value in stored.items() if name != "patience"}))
    assert common.train_folder(folder, wanted)["steps"] == 1
    with pytest.raises(SystemExit, match=r"holds a run with patience None, expected 3: delete it"):
        common.train_folder(folder, [*wanted, "--patience=3"])
    file.write_text(json.dumps({**stored, "rewind": 4}))
    with pytest.raises(SystemExit, match=r"holds a run with rewind 4, expected None: delete it"):
        common.train_folder(folder, wanted)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(common.torch.cuda, "is_available", lambda: False)
    options = common.parser("captions", "doc", "text", seeds=3)
    assert vars(options.parse_args(["--data=x"])) == {"data": "x", "seeds": 3, "device": "cpu"}
    with pytest.raises(SystemExit):
        options.parse_args(["--data=x", "--device=cuda"])
    assert "torch finds no GPU here" in capsys.readouterr().err


def test_benchmarks_have_only_options_that_they_read():
    options = common.parser("load", "doc", "text", seeds=None, devices=("cpu",))
    assert vars(options.parse_args(["--data=x"])) == {"data": "x"}
