import json
import re
import shutil

import numpy as np
import pytest
import torch

from boustro import BoustroTokenizer
from boustro.data_scripts import prepare
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import prepare_whole
from boustro.evaluation import __main__ as evaluation_main
from boustro.evaluation.__main__ import main
from boustro.evaluation.reading import corpus_texts
from boustro.evaluation.scoring import score_cold_windows
from boustro.training.arguments import parse_arguments
from tests.conftest import small_model

MEMORY = {"libraries_mib": 400.0, "memory_mib": 450.0}
TEXT = "the quick brown fox jumps over the lazy dog. 你好，世界。\n" * 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = BoustroTokenizer.train_from_iterator([TEXT])
    small_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Not measured by another process each time."""
    monkeypatch.setattr(evaluation_main, "memory_of_use", lambda checkpoint: MEMORY)


def corpus_of(checkpoint):
    tokenizer = BoustroTokenizer.from_pretrained(checkpoint)
    return prepare_whole(DataArguments(train_file=[str(checkpoint / "text.txt")]), tokenizer)[0]


def test_command_prints_a_table_and_one_json_line(checkpoint, capsys):
    assert main([str(checkpoint), "--data", str(checkpoint / "text.txt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads(lines[-1])
    assert figures["characters"] == len(TEXT)
    assert figures["bits_per_character"] == pytest.approx(figures["nats_per_character"] / np.log(2))
    assert figures["bits_per_byte"] < figures["bits_per_character"]
    table = "\n".join(lines[:-1])
    assert f"{figures['nats_per_character']:.4f}" in table and f"{figures['cold_nats']:.4f}" in table
    assert "importance_nats" not in figures and figures["prior_loss_per_segment"] is not None
    assert re.search(rf"places 2–3 +{figures['prior_loss_by_place'][2]:.4f}\n", table)


def test_baselines_stand_beside_the_model(checkpoint, tmp_path, capsys):
    tokenizer = BoustroTokenizer.from_pretrained(checkpoint)
    for name, size in (("narrow", 8), ("wide", 24)):
        small_model(vocab_size=len(tokenizer), latent_size=0, hidden_size=size).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("narrow", "wide")]
    flags = ["--data", str(checkpoint / "text.txt"), "--particles", "0", "--output", str(tmp_path)]
    assert main([str(checkpoint), *flags, "--baseline", *folders]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert main([folders[1], *flags]) == 0
    alone = json.loads(capsys.readouterr().out.splitlines()[-1])
    narrow, wide = figures["baselines"]
    assert [narrow["name"], wide["name"]] == [f"{tmp_path.name}/narrow", f"{tmp_path.name}/wide"]
    assert wide["nats_per_character"] == alone["nats_per_character"] and wide["parameters"] == alone["parameters"]
    assert narrow["parameters"] < wide["parameters"] and "/narrow (plain LSTM, exact)" in "\n".join(lines)


def test_command_draws_pictures_and_keeps_one_section_in_the_card(checkpoint, tmp_path, capsys):
    (tmp_path / "README.md").write_text("# mine\n", encoding="utf-8")
    flags = ["--data", str(checkpoint / "text.txt"), "--input-mode", "documents", "--max-length", "30"]
    flags += ["--importance-samples", "3", "--output", str(tmp_path)]
    assert main([str(checkpoint), *flags]) == 0
    assert main([str(checkpoint), *flags]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["importance_documents"] == 24 and figures["reconstructed"] == 24
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# mine\n") and card.count("<!-- evaluation:begin -->") == 1
    for picture in ("alignment.png", "latent_map.png", "unit_kl.png"):
        assert f"]({picture})" in card and (tmp_path / picture).is_file()
    assert f"| {figures['importance_nats_per_document']:.4f} |" in card


@pytest.mark.parametrize("training", [False, True])
def test_samples_stand_beside_held_out_text(checkpoint, tmp_path, capsys, training):
    text, flags = str(checkpoint / "text.txt"), ["--output", str(tmp_path), "--samples", "2"]
    flags += ["--train-data", text] if training else []
    assert main([str(checkpoint), "--data", text, *flags]) == 0
    out = capsys.readouterr().out
    sampled = json.loads(out.splitlines()[-1])["sampled"]
    assert set(sampled) == {"samples", "real"} and sampled["real"]["distinct_2"] > 0
    assert (sampled["real"]["mean_copied_characters"] is not None) == training
    assert ("not measured" in out) != training


@pytest.mark.parametrize(
    ("text", "samples", "cause"),
    [("the fox", ["the quick", "brown fox"], "too short for two pieces"), (TEXT, ["", ""], "they hold no character")],
)
def test_samples_that_cannot_be_compared_leave_the_rest(
    text, samples, cause, checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(evaluation_main, "draw_samples", lambda *args: samples)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    argv = ["--data", str(tmp_path / "text.txt"), "--output", str(tmp_path), "--samples=2", "--particles=0"]
    assert main([str(checkpoint), *argv]) == 0
    captured = capsys.readouterr()
    assert cause in captured.err and captured.err.count("warning") == 1
    figures = json.loads(captured.out.splitlines()[-1])
    assert "sampled" not in figures and figures["characters"] == len(text)


def texts_read(folder, argv, monkeypatch) -> tuple[list[str], int]:
    """The documents that the command measures with these options, and the most characters of a row."""
    subjects = []

    def stopped(subject):
        subjects.append(subject)
        raise DataError("enough")

    monkeypatch.setattr(evaluation_main, "measure_bound", stopped)
    assert main([str(folder), "--data", str(folder / "rows.txt"), *argv]) == 2
    return corpus_texts(subjects[0].corpus, subjects[0].tokenizer), subjects[0].max_length


def test_text_is_read_as_the_run_read_its_own(checkpoint, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    (folder / "rows.txt").write_text("one\u00a0\ntwo\n\nthree", encoding="utf-8")
    documents = ["--input-mode", "documents"]
    assert texts_read(folder, documents, monkeypatch) == (["one\u00a0", "two", "three"], 256)
    assert texts_read(folder, [*documents, "--sample-by", "document"], monkeypatch)[0] == ["one\u00a0\ntwo\n\nthree"]
    stored = parse_arguments(["--config=documents", "--sample-by=paragraph", "--tidy-spaces", "--max-length=60"])
    (folder / "arguments.json").write_text(json.dumps(stored.kept()), encoding="utf-8")
    assert texts_read(folder, documents, monkeypatch) == (["one\ntwo", "three"], 60)
    assert texts_read(folder, [*documents, "--sample-by=line", "--max-length=9"], monkeypatch)[1] == 9
    # of a run in the other mode only the cleaning counts
    assert "".join(texts_read(folder, [], monkeypatch)[0]) == "one\ntwo\n\nthree"
    options = ["--input-mode=documents", "--filters=none", "--tidy-spaces", "--redact=keep"]
    prepared = ["--input", str(folder / "rows.txt"), "--output", str(tmp_path / "prepared"), *options]
    assert prepare.main([*prepared, "--validation-fraction=0.5"]) == 0
    stored = parse_arguments(["--config=documents", f"--prepared={tmp_path / 'prepared'}"])
    (folder / "arguments.json").write_text(json.dumps(stored.kept()), encoding="utf-8")
    assert texts_read(folder, documents, monkeypatch) == (["one\ntwo", "three"], 128)
    shutil.rmtree(tmp_path / "prepared")
    assert texts_read(folder, documents, monkeypatch)[0] == ["one\u00a0", "two", "three"]
    assert "how the training text was prepared is not known" in capsys.readouterr().err


def test_options_that_training_did_not_write_are_named(checkpoint, tmp_path, capsys):
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    (folder / "arguments.json").write_text("[]", encoding="utf-8")
    assert main([str(folder), "--data", str(folder / "text.txt")]) == 2
    assert "arguments.json is not what training wrote" in capsys.readouterr().err


def test_a_plain_model_is_measured_without_latents(tmp_path, capsys):
    tokenizer = BoustroTokenizer.train_from_iterator([TEXT])
    small_model(vocab_size=len(tokenizer), latent_size=0, latent_prior="standard").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert main([str(tmp_path), "--data", str(tmp_path / "text.txt")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("−log p(x), exact") and "KL" not in out.splitlines()[1]
    assert json.loads(out.splitlines()[-1])["importance_nats"] is None
    assert "## Evaluation on text.txt" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    "option, message", [("--output", "text.txt is a file, expected a folder"), ("--train-data", "text.txt/no.txt")]
)
def test_paths_are_checked_before_anything_is_measured(checkpoint, capsys, monkeypatch, option, message):
    monkeypatch.delattr(evaluation_main, "load")
    value = str(checkpoint / message.split()[0])
    assert main([str(checkpoint), "--data", str(checkpoint / "text.txt"), option, value]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option, value", [("--samples", "1"), ("--importance-samples", "-1"), ("--max-length", "1")])
def test_an_impossible_option_is_one_sentence(checkpoint, capsys, option, value):
    assert main([str(checkpoint), "--data", str(checkpoint / "text.txt"), option, value]) == 2
    assert f"{option} is {value}, expected" in capsys.readouterr().err


def test_a_missing_checkpoint_or_file_is_one_sentence(checkpoint, capsys):
    assert main([str(checkpoint), "--data", "no_such_file.txt"]) == 2
    assert "no_such_file.txt" in capsys.readouterr().err
    assert main(["no_such_folder", "--data", str(checkpoint / "text.txt")]) == 2
    error = capsys.readouterr().err
    assert "no_such_folder" in error and "Traceback" not in error


def test_cold_windows_are_the_bound_of_windows_read_alone(checkpoint):
    corpus, model = corpus_of(checkpoint), small_model(vocab_size=len(BoustroTokenizer.from_pretrained(checkpoint)))
    with torch.no_grad():  # a latent without spread makes the bound the same for every draw of noise
        model.model.planner.encoder.output.bias[4:] = -30.0
    value = score_cold_windows(model, corpus, window=9, windows=40, seed=3)
    starts = np.random.default_rng(3).integers(len(corpus.ids) - 9, size=40)
    nats = 0.0
    for start in starts:
        piece = torch.from_numpy(corpus.ids[start : start + 10].astype(np.int64))[None]
        flags = torch.from_numpy(corpus.word_starts[start : start + 10].astype(np.int64))[None]
        with torch.no_grad():
            output = model(piece[:, :-1], target_ids=piece[:, 1:], word_starts=flags[:, 1:])
        nats += float(output.reconstruction.sum() + output.kl.sum())
    assert value == pytest.approx(nats / 360, rel=2e-2)


def test_a_text_of_less_than_a_window_is_refused(checkpoint):
    with pytest.raises(DataError, match="more than one window of 10000"):
        score_cold_windows(small_model(), corpus_of(checkpoint), window=10_000)


def test_figures_are_printed_even_where_nothing_can_be_written(checkpoint, capsys):
    output = checkpoint / "text.txt" / "folder"  # nothing lies in a file
    assert main([str(checkpoint), "--data", str(checkpoint / "text.txt"), "--output", str(output)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("nothing written (") for line in lines)
    assert json.loads(lines[-1])["characters"] == len(TEXT)
