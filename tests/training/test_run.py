"""Training for real: `main` with a tiny recipe."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, metadata_load
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from boustro.data_scripts import batches
from boustro.data_scripts.batches import StreamBatches
from boustro.data_scripts.prepare import prepare
from boustro.evaluation.scoring import evaluate_split
from boustro.training import checkpoint, report, run
from boustro.training.arguments import parse_arguments
from boustro.training.precision import has_bf16
from boustro.training.run import main
from tests.hub_server import card_errors
from tests.training.conftest import flags, make_text

ROOT = Path(__file__).parents[2]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def short_samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SAMPLE_CHARACTERS", 12)
        yield


@pytest.fixture(scope="module")
def finished(text_file, tmp_path_factory) -> Path:
    """The folder of a run that was never stopped."""
    output_dir = tmp_path_factory.mktemp("runs") / "finished"
    assert main(flags(text_file, output_dir)) == 0
    return output_dir


def test_the_end_of_a_run_fits_the_prior_and_nothing_else(finished):
    best, published = (load_file(folder / "model.safetensors") for folder in (finished / "best", finished))
    changed = {name for name in best if not torch.equal(best[name], published[name])}
    assert changed == {name for name in best if "prior." in name}


def test_documents_have_a_prior_that_is_not_fitted(text_file, tmp_path):
    assert main(flags(text_file, tmp_path, max_steps=2, input_mode="documents", latent_prior="standard")) == 0
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["prior_fit"] is None
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "best/model.safetensors").read_bytes()


def test_what_a_kill_left_of_publishing_is_put_right_by_publishing_again(finished, tmp_path, monkeypatch):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(finished), AutoTokenizer.from_pretrained(finished)
    moves = iter(range(3))

    def killed(source, target):
        next(moves)
        shutil.move(source, target)

    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(checkpoint.os, "replace", killed)
        checkpoint.publish(model, tokenizer, tmp_path)
    assert len(list(tmp_path.rglob("*.new"))) == 1
    checkpoint.publish(model, tokenizer, tmp_path)
    assert not list(tmp_path.rglob("*.new"))
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in (finished / "best").iterdir()}
    assert (tmp_path / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def history(output_dir: Path) -> list[dict]:
    entries = json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))["history"]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


def assert_same_run(one: Path, other: Path) -> None:
    assert history(one) == history(other)
    for file in ("model.safetensors", "last/model.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_a_run_leaves_a_loadable_model_figures_and_pictures(finished):
    assert {path.name for path in finished.iterdir()} >= {
        *("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"),
        *("metrics.json", "training_curves.png", "arguments.json", "best", "last", "modeling_boustro.py"),
    }
    assert not list(finished.rglob("*.new"))
    for folder in (finished, finished / "last", finished / "best"):
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size
    assert AutoModel.from_pretrained(finished).config.latent_size == 4
    assert GenerationConfig.from_pretrained(finished).do_sample


def test_the_metrics_are_those_of_the_published_weights(finished, text_file):
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    validation = prepare(parse_arguments(flags(text_file, finished)).data).validation
    model = AutoModelForCausalLM.from_pretrained(finished)
    assert metrics["validation"] == evaluate_split(model, validation, input_mode="stream", max_length=32)
    assert metrics["prior_fit"]["kl_after"] < metrics["prior_fit"]["kl_before"]
    assert metrics["history"][-1]["train"]["loss"] < metrics["history"][0]["train"]["loss"]
    assert metrics["steps"] == 20 and [entry["step"] for entry in metrics["history"]] == [5, 10, 15, 20]
    assert metrics["arguments"]["hidden_size"] == 24
    assert metrics["data"]["train"]["characters"] == 3600


def test_the_card_has_no_hole_and_valid_metadata(finished):
    text = (finished / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"\$\{|\$[a-z]", text)
    metadata = metadata_load(finished / "README.md")
    assert metadata["library_name"] == "transformers" and metadata["pipeline_tag"] == "text-generation"
    card = ModelCard(text)
    figures = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))["validation"]
    assert card.data.eval_results[0].metric_value == pytest.approx(figures["bits_per_character"], abs=1e-3)
    assert f"{figures['nats_per_character']:.4f}" in text
    assert "for every 16 characters, plan skip" in " ".join(text.split())


@pytest.mark.parametrize(("script", "prompt"), [("Latin", "The "), ("Han", "明月照")])
def test_the_snippets_of_the_card_run(script, prompt, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(finished, "model"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["data"]["scripts"] = {script: 0.8}
    report.write_card(folder, run.parse_arguments([f"--output-dir={folder}"]), metrics, [])
    text = (folder / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(re.sub(r"max_new_tokens=\d+", "max_new_tokens=5", snippet), {})
    assert prompt in capsys.readouterr().out


def test_the_card_has_every_section_and_says_what_was_not_measured(finished):
    text = (finished / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^##+ (.*)", text, flags=re.M)
    assert headings == [
        *("Intended use", "How to use", "The code in this repository", "Training data", "Training", "Evaluation"),
        *("Samples", "Memorisation, privacy, bias, toxicity", "Memorisation", "Privacy", "Bias", "Toxicity"),
        *("Limits", "Ethics"),
    ]
    safety = text.split("<!-- safety:begin -->")[1].split("<!-- safety:end -->")[0]
    for heading in ("Memorisation", "Privacy", "Bias", "Toxicity"):
        assert "not measured" in safety.split(f"### {heading}\n")[1].split("###")[0]
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert re.search(rf"^\| train \| \d+ \| {metrics['train_characters']:,} \|", text, flags=re.M)
    assert card_errors(text) == []


def test_what_may_be_published_says_nothing_of_the_machine(finished):
    for name in ("README.md", "metrics.json", "config.json", "tokenizer_config.json", "generation_config.json"):
        assert str(finished.parent) not in (finished / name).read_text(encoding="utf-8"), name
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["arguments"]["train_file"] == ["text.txt"] and metrics["data"]["source"] == "text.txt"
    assert "--train-file=text.txt" in metrics["command"] or "--train_file=text.txt" in metrics["command"]


def interrupt_at_step_7(monkeypatch):
    """Ctrl-C comes while the batch of step 7 is made."""
    batch = StreamBatches.batch

    def interrupted(self, epoch, index, segment_length):
        if epoch * self.steps + index == 7:
            signal.raise_signal(signal.SIGINT)
        return batch(self, epoch, index, segment_length)

    monkeypatch.setattr(StreamBatches, "batch", interrupted)


def test_ctrl_c_saves_and_the_resumed_run_is_the_same(finished, text_file, tmp_path, monkeypatch, capsys):
    output_dir = tmp_path / "stopped"
    interrupt_at_step_7(monkeypatch)
    assert main(flags(text_file, output_dir)) == run.INTERRUPTED
    assert f"--output-dir {output_dir} --resume" in capsys.readouterr().out
    assert json.loads((output_dir / "last/trainer_state/state.json").read_text())["step"] == 8
    monkeypatch.undo()
    assert main(["--output-dir", str(output_dir), "--resume"]) == 0
    assert_same_run(finished, output_dir)


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor does not compute in bf16")
def test_a_bf16_run_resumes_as_the_same_run(text_file, tmp_path, monkeypatch, capsys):
    assert main(flags(text_file, tmp_path / "whole", mixed_precision="auto")) == 0
    assert "cpu, bf16" in capsys.readouterr().out
    interrupt_at_step_7(monkeypatch)
    assert main(flags(text_file, tmp_path / "stopped", mixed_precision="auto")) == run.INTERRUPTED
    monkeypatch.undo()
    assert main([f"--output-dir={tmp_path / 'stopped'}", "--resume"]) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor does not compute in bf16")
def test_a_bf16_run_goes_on_in_float32(text_file, tmp_path):
    assert main(flags(text_file, tmp_path / "run", mixed_precision="bf16", max_steps=3)) == 0
    assert main([f"--output-dir={tmp_path / 'run'}", "--resume", "--mixed-precision=no", "--max-steps=5"]) == 0
    assert main([f"--output-dir={tmp_path / 'run'}", "--resume", "--mixed-precision=bf16", "--max-steps=7"]) == 0


KILLED_IN_A_SAVE = """
import os, signal, sys
from boustro.training import checkpoint
from boustro.training.run import main

save, saves = checkpoint.save_run_state, []

def save_or_die(*arguments):
    saves.append(1)
    if len(saves) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments)

checkpoint.save_run_state = save_or_die
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_run_resumes_from_its_last_whole_checkpoint(finished, text_file, tmp_path):
    output_dir = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED_IN_A_SAVE, *flags(text_file, output_dir)]
    result = subprocess.run(command, cwd=tmp_path, env=ONE_THREAD, capture_output=True, timeout=120)
    assert result.returncode == -signal.SIGKILL
    AutoModelForCausalLM.from_pretrained(output_dir / "last")
    assert json.loads((output_dir / "last/trainer_state/state.json").read_text())["step"] == 5
    assert main(["--output-dir", str(output_dir), "--resume"]) == 0
    assert_same_run(finished, output_dir)


def error_of(argv: list[str], capsys) -> str:
    """The sentence that `main` prints; it must be a single line after the prefix."""
    capsys.readouterr()
    assert main(argv) == run.USER_ERROR
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("boustro: error: ")
    return lines[-1]


def test_a_folder_in_use_is_refused(finished, text_file, tmp_path, capsys):
    assert "--resume" in error_of(flags(text_file, finished), capsys)
    (tmp_path / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        message = error_of(flags(text_file, tmp_path, overwrite_output_dir=overwrite), capsys)
        assert "holds no run of boustro" in message
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("linked", [False, True])
def test_overwriting_starts_anew(linked, text_file, tmp_path):
    output_dir = tmp_path / "run"
    if linked:
        (tmp_path / "elsewhere").mkdir()
        output_dir.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert main(flags(text_file, output_dir, max_steps=2)) == 0
    (output_dir / "old").write_text("of the first run", encoding="utf-8")
    assert main(flags(text_file, output_dir, max_steps=3, overwrite_output_dir=True)) == 0
    assert history(output_dir)[-1]["step"] == 3 and not (output_dir / "old").exists()
    assert output_dir.is_symlink() == linked


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "prepare", None)
    assert f"{text_file} is a file, expected a folder" in error_of(flags(text_file, text_file / "run"), capsys)
    monkeypatch.setattr(run.os, "access", lambda path, mode: False)
    assert f"{tmp_path} may not be written to" in error_of(flags(text_file, tmp_path / "a" / "run"), capsys)


def test_a_full_disk_is_one_sentence_and_leaves_the_last_checkpoint(text_file, tmp_path, monkeypatch, capsys):
    output_dir, save = tmp_path / "run", checkpoint.save_run_state

    def full(folder, state, optimizer):
        if state.step > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(folder, state, optimizer)

    monkeypatch.setattr(checkpoint, "save_run_state", full)
    message = error_of(flags(text_file, output_dir, eval_every=2, max_steps=4), capsys)
    assert "No space left on device" in message and f"the last good checkpoint is {output_dir / 'last'}" in message
    assert json.loads((output_dir / "last/trainer_state/state.json").read_text())["step"] == 2


def test_resuming_on_another_text_is_refused(text_file, tmp_path, capsys):
    mine = tmp_path / "mine.txt"
    mine.write_text(text_file.read_text(encoding="utf-8"), encoding="utf-8")
    output_dir = tmp_path / "run"
    assert main(flags(mine, output_dir, max_steps=2)) == 0
    mine.write_text(make_text(4000, seed=1), encoding="utf-8")
    message = error_of(["--output-dir", str(output_dir), "--resume", "--max-steps", "4"], capsys)
    assert "the training text is not the one" in message


def test_a_diverging_run_stops_and_keeps_its_checkpoint(text_file, tmp_path, monkeypatch, capsys):
    output_dir = tmp_path / "run"
    batch = StreamBatches.batch

    def poisoned(self, epoch, index, segment_length):
        if epoch * self.steps + index == 7:
            monkeypatch.setattr(torch.Tensor, "backward", poison(torch.Tensor.backward))
        return batch(self, epoch, index, segment_length)

    def poison(backward):
        return lambda tensor, *arguments, **options: backward(tensor * float("nan"), *arguments, **options)

    monkeypatch.setattr(StreamBatches, "batch", poisoned)
    message = error_of(flags(text_file, output_dir), capsys)
    assert "step 8" in message and str(output_dir / "last") in message and "--learning-rate" in message
    weights = load_file(output_dir / "last" / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.parametrize(
    "name",
    ["arguments.json", *(f"last/trainer_state/{x}" for x in ("state.json", "optimizer.pt", "process-0.safetensors"))],
)
@pytest.mark.parametrize("content", [b"{bad", b"[]", b""])
def test_a_damaged_file_of_a_run_is_named(name, content, finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / name).write_bytes(content)
    message = error_of(["--output-dir", str(run), "--resume", "--max-steps", "30"], capsys)
    assert f"--resume: {run / name} is not what training wrote" in message and str(run / "best") in message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_model_of_a_run_is_named(name, finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "last" / name).write_bytes(b"{bad")
    message = error_of(["--output-dir", str(run), "--resume", "--max-steps", "30"], capsys)
    assert f"--resume {run / 'last'}: " in message and "--checkpoint" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_minutes": "inf"}, r"--max-minutes is inf, expected a number above 0"),
        ({"checkpoint": "tests/nowhere"}, r"tests/nowhere: there is no such folder; the folders in tests are: "),
        ({"window_length": 40}, r"--window-length 40 is not a multiple of --segment-length 16"),
        ({"window_length": 8000}, r"fewer than one window of 8000"),
        ({"hidden_size": 0}, r"BoustroConfig.hidden_size is 0, expected"),
        ({"tie_word_embeddings": True}, r"embedding_size \(12\) equal to hidden_size \(24\)"),
        ({"gradient_accumulation": 9}, r"a step has 8 rows, fewer than the 9 pieces"),
        ({"input_mode": "documents"}, r"latent_prior is 'conditional', expected 'standard'.*--config documents"),
        ({"latent_prior": "standard", "latent_size": 0}, r"latent_prior is 'standard', .*--input-mode documents"),
        ({"overwrite_output_dir": "runs/mine"}, r"--overwrite-output-dir is 'runs/mine', expected true or false\."),
        ({"resume": "runs/mine"}, r"--resume is 'runs/mine', expected .*: the run's folder is --output-dir"),
        ({"checkpoint": "no/such/folder"}, r"checkpoint no/such/folder: there is no such folder"),
        ({"train_file": "no/such/file.txt"}, r"no/such/file.txt"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, message, text_file, tmp_path, capsys):
    assert re.search(message, error_of(flags(text_file, tmp_path / "run", **options), capsys))


def test_training_goes_on_from_a_checkpoint(finished, tmp_path, capsys):
    recipe, other = tmp_path / "recipe.yaml", tmp_path / "other.txt"
    recipe.write_text(yaml.safe_dump({"max_steps": 2, "batch_size": 4, "window_length": 32, "cpu": True}))
    other.write_text(make_text(2000, seed=3) + " żółć", encoding="utf-8")
    argv = ["--config", str(recipe), "--checkpoint", str(finished), "--train-file", str(other)]
    message = error_of([*argv, "--output-dir", str(tmp_path / "a"), "--hidden-size", "48"], capsys)
    assert "--hidden-size is 48, but the model in" in message
    for option, value in (("dropout", "1.5"), ("dropout", "1.0"), ("backward_weight", "-3.0")):
        message = error_of([*argv, "--output-dir", str(tmp_path / "a"), f"--{option}={value}"], capsys)
        assert f"BoustroConfig.{option} is {value}, expected" in message
    assert main([*argv, "--output-dir", str(tmp_path / "b"), "--dropout", "0.3"]) == 0
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "b").config
    assert (config.hidden_size, config.dropout) == (24, 0.3)
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text(encoding="utf-8"))
    before = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["history"][0]["train"]["loss"] < before["history"][0]["train"]["loss"]
    assert metrics["history"][0]["kl_weight"] == 1.0


def test_a_run_killed_before_its_first_checkpoint_starts_again_as_it_was(finished, text_file, tmp_path, monkeypatch):
    def killed(self, epoch, index, segment_length):
        raise KeyboardInterrupt

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"max_steps": 2, "batch_size": 4, "window_length": 32, "cpu": True}))
    given = ["--config", str(recipe), "--checkpoint", str(finished), "--train-file", str(text_file), "--dropout=0.4"]
    output_dir = f"--output-dir={tmp_path / 'run'}"
    with monkeypatch.context() as patch:
        patch.setattr(StreamBatches, "batch", killed)
        assert main([*given, output_dir]) == run.INTERRUPTED
    assert not (tmp_path / "run" / "last").exists()
    assert main([output_dir, "--resume", "--max-steps=1"]) == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run").config.dropout == 0.4
    command = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["command"]
    assert command.endswith("--train-file text.txt --dropout=0.4 --output-dir=run")
    assert command in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_a_run_whose_text_was_moved_goes_on(finished, text_file, tmp_path, monkeypatch, capsys):
    texts = {name: tmp_path / f"{name}.txt" for name in ("training", "validation", "other", "moved", "moved_too")}
    for name, seed in (("training", 0), ("validation", 1), ("other", 2)):
        texts[name].write_text(make_text(4000, seed=seed), encoding="utf-8")
    given = {"validation_file": texts["validation"]}
    assert main(flags(texts["training"], tmp_path / "whole", **given)) == 0
    interrupt_at_step_7(monkeypatch)
    assert main(flags(texts["training"], tmp_path / "run", **given)) == run.INTERRUPTED
    monkeypatch.undo()
    texts["training"].rename(texts["moved"])
    texts["validation"].rename(texts["moved_too"])
    argv = [f"--output-dir={tmp_path / 'run'}", "--resume"]
    assert "training.txt does not exist" in error_of(argv, capsys)
    argv.append(f"--validation-file={texts['moved_too']}")
    assert "the training text is not the one" in error_of([*argv, f"--train-file={texts['other']}"], capsys)
    argv.append(f"--train-file={texts['moved']}")
    assert "the validation text is not" in error_of([*argv, f"--validation-file={texts['other']}"], capsys)
    assert main(argv) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_without_a_checkpoint_keeps_its_text(text_file, tmp_path, monkeypatch, capsys):
    def killed(self, epoch, index, segment_length):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StreamBatches, "batch", killed)
        assert main(flags(text_file, tmp_path / "run")) == run.INTERRUPTED
    other = tmp_path / "other.txt"
    other.write_text(make_text(4000, seed=2), encoding="utf-8")
    message = error_of([f"--output-dir={tmp_path / 'run'}", "--resume", f"--train-file={other}"], capsys)
    assert "a resumed run cannot change it" in message


def test_a_run_of_before_keeps_what_it_knows_of_its_text(text_file, tmp_path):
    arguments = parse_arguments(flags(text_file, tmp_path / "run"))
    data = prepare(arguments.data)
    state = run.load_state(None, arguments, data)
    before = {"data": state.data[: state.data.index("crc32") + 14]}  # of the ids alone, and nothing of validation
    (tmp_path / "last" / checkpoint.STATE_FOLDER).mkdir(parents=True)
    checkpoint.write_json(tmp_path / "last" / checkpoint.STATE_FOLDER / "state.json", before)
    assert run.load_state(tmp_path / "last", arguments, data) == state
    assert run.fingerprint(replace(data.train, word_starts=1 - data.train.word_starts)) != state.data


def test_the_mend_for_a_prior_of_another_input_mode_is_one_that_works(finished, text_file, tmp_path, capsys):
    message = error_of(flags(text_file, tmp_path / "run", checkpoint=finished, input_mode="documents"), capsys)
    assert message.endswith("train with --input-mode stream, or a new model without --checkpoint.")


def test_a_checkpoint_of_another_vocabulary_is_refused(finished, text_file, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (broken / name).write_bytes((finished / name).read_bytes())
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "vocab_size": 500}))
    message = error_of(flags(text_file, tmp_path / "run", checkpoint=broken), capsys)
    assert "vocab_size=500" in message and str(config["vocab_size"]) in message


@pytest.mark.parametrize("mode", ["stream", "documents"])
def test_accumulation_changes_no_result(mode, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "COLD_PROBABILITY", 0.5)
    exact = {"input_mode": mode, "dropout": 0.0, "word_start_dropout": 0.0, "max_steps": 4, "eval_every": 4}
    exact["latent_prior"] = "standard" if mode == "documents" else "conditional"
    folders = []
    for pieces in (1, 3):
        folders.append(tmp_path / f"{mode}-{pieces}")
        assert main(flags(text_file, folders[-1], gradient_accumulation=pieces, **exact)) == 0
    assert_close_runs(*folders)


def test_rows_that_begin_cold_are_trained_without_their_state(text_file, tmp_path, monkeypatch):
    weights = []
    for probability in (0.0, 1.0):
        monkeypatch.setattr(batches, "COLD_PROBABILITY", probability)
        folder = tmp_path / str(probability)
        assert main(flags(text_file, folder, max_steps=3, eval_every=3)) == 0
        weights.append(load_file(folder / "last" / "model.safetensors")["model.context.layers.0.weight_hh_l0"])
    assert not torch.allclose(*weights, atol=1e-4)


def test_two_processes_equal_one(text_file, tmp_path):
    exact = {"dropout": 0.0, "word_start_dropout": 0.0, "max_steps": 4, "eval_every": 4}
    assert main(flags(text_file, tmp_path / "one", **exact)) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, str(ROOT / "train.py"), *flags(text_file, tmp_path / "two", **exact)]
    result = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["processes"] == 2
    assert_close_runs(tmp_path / "one", tmp_path / "two")


def test_processes_that_would_not_train_together_are_refused(text_file, tmp_path, monkeypatch, capsys):
    alone = SimpleNamespace(num_processes=1, device=torch.device("cpu"))
    monkeypatch.setattr(run, "PartialState", lambda cpu: alone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = error_of(flags(text_file, tmp_path / "run"), capsys)
    assert "2 processes were started" in message and "add --cpu" in message and not (tmp_path / "run").exists()


def assert_close_runs(one: Path, other: Path) -> None:
    losses = [history(folder)[-1]["train"]["loss"] for folder in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    weights = [load_file(folder / "last" / "model.safetensors") for folder in (one, other)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-4, msg=name)


def test_the_plain_language_model_trains_too(text_file, tmp_path):
    assert main(flags(text_file, tmp_path / "run", latent_size=0, max_steps=2)) == 0
    assert "no latent" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_a_time_budget_ends_the_run_and_trackers_write(text_file, tmp_path):
    argv = [flag for flag in flags(text_file, tmp_path / "run") if not flag.startswith("--max-steps")]
    assert main([*argv, "--max-minutes", "0.01", "--report-to", "tensorboard"]) == 0
    assert history(tmp_path / "run")[-1]["progress"] == 1.0
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_deep_stacks_save_and_resume(text_file, tmp_path):
    """Two layers in a stack: their states lie in memory in another order than one."""
    depth = {"num_context_layers": 2, "num_generator_layers": 2, "eval_every": 2}
    assert main(flags(text_file, tmp_path / "run", max_steps=4, **depth)) == 0
    assert main([f"--output-dir={tmp_path / 'run'}", "--resume", "--max-steps=6"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["steps"] == 6


def test_a_run_made_longer_does_not_warm_its_latent_up_again(text_file, tmp_path, monkeypatch):
    batch, lengths = StreamBatches.batch, []

    def recorded(self, epoch, index, segment_length):
        lengths.append(segment_length)
        return batch(self, epoch, index, segment_length)

    monkeypatch.setattr(StreamBatches, "batch", recorded)
    assert main(flags(text_file, tmp_path / "run", max_steps=2, latent_warmup_fraction=0.9)) == 0
    assert main([f"--output-dir={tmp_path / 'run'}", "--resume", "--max-steps=5"]) == 0
    assert lengths == [8, 16, 16, 16, 16]


def test_characters_spelt_in_bytes_count_once_in_training_as_in_validation(tmp_path):
    text = tmp_path / "zh.txt"
    text.write_text("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n" * 60, encoding="utf-8")
    still = {"learning_rate": 1e-9, "muon_learning_rate": 1e-9, "dropout": 0.0, "latent_size": 0, "max_steps": 2}
    assert main(flags(text, tmp_path / "run", max_vocab_size=262, eval_every=2, **still)) == 0
    (entry,) = history(tmp_path / "run")
    assert entry["train"]["nats_per_character"] == pytest.approx(entry["validation"]["nats_per_character"], rel=0.1)


def test_nothing_is_touched_before_data_and_options_are_right(finished, text_file, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "old")
    before = sorted(path.name for path in (tmp_path / "old").iterdir())
    wrong = [*flags(text_file, tmp_path / "old", overwrite_output_dir=True), "--train-file=nowhere.txt"]
    assert main(wrong) == run.USER_ERROR
    assert "nowhere.txt" in capsys.readouterr().err
    rows = flags(text_file, tmp_path / "old", overwrite_output_dir=True, gradient_accumulation=9)
    assert main(rows) == run.USER_ERROR
    assert "fewer than the 9 pieces" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == before
    own = flags(text_file, tmp_path / "old", overwrite_output_dir=True, checkpoint=tmp_path / "old" / "best")
    assert main(own) == run.USER_ERROR
    assert "would delete --checkpoint" in capsys.readouterr().err
    assert main(flags(text_file, tmp_path / "new", dropout=1.0)) == run.USER_ERROR
    assert main(flags(text_file, tmp_path / "new", max_steps=2)) == 0


def test_a_text_in_other_characters_than_the_checkpoints_is_refused(finished, tmp_path, capsys):
    other = tmp_path / "zh.txt"
    other.write_text("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n" * 40, encoding="utf-8")
    argv = [f"--config={finished.parent / 'none.yaml'}", f"--train-file={other}", f"--checkpoint={finished}"]
    (finished.parent / "none.yaml").write_text("max_steps: 2\nwindow_length: 32\n", encoding="utf-8")
    assert main([*argv, f"--output-dir={tmp_path / 'out'}"]) == run.USER_ERROR
    assert "unknown to the vocabulary" in capsys.readouterr().err


def test_a_bound_that_is_no_number_ends_the_run_before_it_is_saved(text_file, tmp_path, capsys):
    rates = {"learning_rate": 1e30, "muon_learning_rate": 1e30, "eval_every": 1, "max_steps": 1}
    assert main(flags(text_file, tmp_path / "run", **rates)) == run.USER_ERROR
    assert "not a finite number at step 1" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last").exists() and not (tmp_path / "run" / "model.safetensors").exists()


def test_patience_stops_a_run_that_no_longer_improves(text_file, tmp_path, monkeypatch):
    # The first two evaluations lie in the latent's warm-up: the run is judged by those after it.
    score, values = run.score_while_training, iter([1.0, 1.5, 3.0, 2.0, 2.5, 2.1, 1.0])

    def scripted(*args, **options):
        return score(*args, **options) | {"nats_per_character": next(values)}

    monkeypatch.setattr(run, "score_while_training", scripted)
    options = {"eval_every": 2, "max_steps": 40, "patience": 2, "latent_warmup_fraction": 0.125}
    assert main(flags(text_file, tmp_path / "run", **options)) == 0
    state = json.loads((tmp_path / "run/last/trainer_state/state.json").read_text())
    assert state["step"] == 12 and state["best"] == 1.0
    folders = (tmp_path / "run" / name for name in ("", "best", "last"))
    published, best, last = (load_file(folder / "model.safetensors") for folder in folders)
    name = "lm_head.weight"
    assert torch.equal(published[name], best[name]) and not torch.equal(best[name], last[name])
