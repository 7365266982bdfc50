"""Training from a folder that the command `prepare` has written."""

import json
import re

import pytest

from boustro.data_scripts import prepare
from boustro.training.run import main
from tests.training.conftest import TINY, make_text


@pytest.mark.parametrize("input_mode", ["stream", "documents"])
def test_train_from_a_prepared_folder(tmp_path, input_mode, capsys):
    text, prepared, output = tmp_path / "text.txt", tmp_path / "prepared", tmp_path / "run"
    text.write_text(make_text(4000).replace("\n", "\n\n"), encoding="utf-8")
    assert prepare.main(["--input", str(text), "--output", str(prepared), "--input-mode", input_mode]) == 0
    recipe = "documents" if input_mode == "documents" else "small"
    hint = {"small": "train.py --prepared", "documents": "train.py --config documents --prepared"}[recipe]
    assert hint in capsys.readouterr().out
    options = [f"--{name}={value}" for name, value in TINY.items()] + [f"--config={recipe}", "--cpu", "--max-steps=2"]
    arguments = [*options, f"--output-dir={output}", f"--prepared={prepared}", f"--input-mode={input_mode}"]
    assert main(arguments) == 0
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    assert metrics["data"]["train"] == report["train"]
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "prepared (prepared), input mode" in card and "rows are paragraphs" in card

    assert main([*arguments, "--resume", "--max-steps=3"]) == 0
    other = {"stream": "documents", "documents": "stream"}[input_mode]
    for option, value, message in (
        ("--train-file", str(text), "holds its own text"),
        ("--redact", "replace", "--redact is 'replace', but the text in --prepared"),
        ("--input-mode", other, f"--input-mode is '{other}', but the text in --prepared"),
    ):
        wrong = ["--prepared", str(prepared), option, value, "--output-dir", str(tmp_path / "other")]
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    options = [option for option in options if not option.startswith("--config")]
    wrong = ["small", "documents"][recipe == "small"]
    assert main([*options, f"--config={wrong}", f"--prepared={prepared}", f"--output-dir={tmp_path / 'other'}"]) == 2
    mends = f"--config {recipe} or --latent-prior .*, or on text that was prepared with --input-mode {other}"
    assert re.search(mends, capsys.readouterr().err)
