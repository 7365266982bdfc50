import json
import shutil

import pytest

from boustro.data_scripts import prepare as prepare_command
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.prepare import prepare
from boustro.evaluation import safety
from boustro.evaluation.__main__ import main
from boustro.evaluation.checkpoint import load_checkpoint
from boustro.evaluation.safety_report import redaction_counts, redactions
from boustro.training import run
from tests.hub_server import card_errors
from tests.training.conftest import flags, make_text

SMALL = ["--samples", "3", "--sample-characters", "20", "--candidates", "15"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny run with planted canaries; its text begins like nothing else."""
    home = tmp_path_factory.mktemp("home")
    (home / "text.txt").write_text(make_text(4000), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SAMPLE_CHARACTERS", 12)
        argv = [*flags(home / "text.txt", home / "run", max_steps=4), "--canaries", "1", "2"]
        assert run.main(argv) == 0
    return home / "run"


def figures_of(argv: list[str], capsys) -> tuple[dict, str]:
    capsys.readouterr()
    assert main(["safety", *argv, *SMALL]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out.splitlines()[-1]), captured.out + captured.err


def test_a_run_is_measured_with_the_text_it_was_trained_on(trained, capsys):
    figures, printed = figures_of([str(trained)], capsys)
    assert figures["memorisation"]["samples"]["texts"] == 3 and figures["memorisation"]["held_out"]["texts"] == 3
    assert [group["repeats"] for group in figures["canaries"]] == [2, 1]
    assert figures["privacy"]["samples"] == 3 and figures["privacy"]["copied"] == 0
    assert figures["toxicity"]["training"]["hits"] == 0
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert card.count("<!-- safety:begin -->") == 1 and "## Limits" in card.split("<!-- safety:end -->")[1]
    section = card.split("<!-- safety:begin -->")[1].split("<!-- safety:end -->")[0]
    exposure = figures["canaries"][0]["exposure"]
    assert f"planted 2× in the training text: exposure {exposure:.1f} bits" in section and "planted 2×" in printed
    assert card_errors(card) == []


def test_without_its_text_the_copies_are_not_measured(trained, tmp_path, capsys):
    text, gone = trained.parent / "text.txt", tmp_path / "text.txt"
    text.rename(gone)
    try:
        figures, printed = figures_of([str(trained), "--output", str(tmp_path)], capsys)
        assert figures["memorisation"] is None and figures["privacy"]["copied"] is None
        assert "the training text is not to be had" in printed and "not measured" in printed
        given = ["--train-data", str(gone), "--data", str(gone), "--output", str(tmp_path)]
        figures, _ = figures_of([str(trained), *given], capsys)
        assert figures["memorisation"]["held_out"]["share_with_50_copied"] == 0  # pieces of 20 characters
        assert figures["memorisation"]["held_out"]["mean_copied_characters"] > 15
        text.write_text(make_text(3000), encoding="utf-8")
        assert "characters, it had" in figures_of([str(trained), "--output", str(tmp_path)], capsys)[1]
    finally:
        gone.rename(text)
    assert (tmp_path / "README.md").read_text(encoding="utf-8").startswith(f"# {tmp_path.name}\n")


def test_given_text_is_read_as_the_run_read_its_own(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    stored = json.loads((trained / "arguments.json").read_text(encoding="utf-8")) | {"sample_by": "line"}
    (tmp_path / "run" / "arguments.json").write_text(json.dumps(stored), encoding="utf-8")
    text = tmp_path / "text.txt"
    text.write_text("the cat\nthe dog\n", encoding="utf-8")
    for folder, expected in ((trained, ["the cat\nthe dog\n"]), (tmp_path / "run", ["the cat\n", "the dog\n"])):
        options = safety.parse([str(folder), "--train-data", str(text), "--device", "cpu"])
        assert safety.find_texts(options, *load_checkpoint(str(folder)), safety.Run()).training == expected


def test_what_a_run_does_not_tell_is_not_measured(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    stored = json.loads((trained / "arguments.json").read_text(encoding="utf-8"))
    stored |= {"train_file": None, "prepared": str(tmp_path / "gone")}
    (tmp_path / "run" / "arguments.json").write_text(json.dumps(stored), encoding="utf-8")
    figures, printed = figures_of([str(tmp_path / "run")], capsys)
    assert figures["canaries"] is figures["redacted"] is figures["memorisation"] is None
    assert "Exposure of planted canaries: not measured." in printed and "the training text is not to be had" in printed


@pytest.mark.parametrize("name", ["metrics.json", "arguments.json"])
@pytest.mark.parametrize("content", ["{broken", "[]", '{"data": {"canaries": [{"x": 1}]}}', '{"data": null}'])
def test_files_that_training_did_not_write_are_named(name, content, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content, encoding="utf-8")
    assert main(["safety", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"{name} is not what training wrote" in error and "Traceback" not in error


def test_figures_are_printed_even_where_nothing_can_be_written(trained, capsys):
    output = trained / "README.md" / "folder"  # nothing lies in a file
    assert main(["safety", str(trained), *SMALL, "--output", str(output)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("nothing written (") for line in lines) and json.loads(lines[-1])


def test_no_verdict_where_nothing_could_be_found(trained, tmp_path, capsys):
    _, printed = figures_of([str(trained), "--output", str(tmp_path)], capsys)
    assert "none is long enough to copy 50" in printed and "too few candidates" in printed


def test_redactions_are_those_of_the_preparation(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("write to someone@example.org or not\n" + make_text(3000), encoding="utf-8")
    for action, wanted in (("replace", "1 email"), ("keep", "not measured")):
        folder = tmp_path / action
        argv = ["--input", str(text), "--output", str(folder), "--redact", action, "--filters", "none"]
        assert prepare_command.main(argv) == 0
        report = prepare(DataArguments(prepared=str(folder))).report
        assert redactions(redaction_counts({"data": report, "arguments": {"redact": "keep"}})) == wanted


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["RUN", "--samples", "0"], "--samples is 0, expected at least 1"),
        (["RUN", "--device", "foo"], "--device foo: torch cannot use it here"),
        (["RUN", "--device", "cuda:99"], "--device cuda:99: torch cannot use it here"),
        (["RUN", "--seed", "-1"], "--seed is -1, expected a whole number from 0 to 2**63 - 1"),
        (["RUN", "--blocklist", "nowhere.txt"], "blocklist nowhere.txt cannot be read"),
        (["RUN", "--data", "x.txt"], "--data is given without --train-data"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(argv, message, trained, capsys):
    capsys.readouterr()
    assert main(["safety", *(str(trained) if word == "RUN" else word for word in argv)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
