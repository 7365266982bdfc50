import json

import numpy as np
import pytest
import torch

from boustro import BoustroTokenizer
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import prepare_whole
from boustro.evaluation.__main__ import main
from boustro.evaluation.scoring import score_cold_windows
from tests.conftest import small_model

TEXT = "the quick brown fox jumps over the lazy dog. 你好，世界。\n" * 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = BoustroTokenizer.train_from_iterator([TEXT])
    small_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


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
    assert {line.split()[0] for line in lines[:-1] if not line.startswith("warning")} == set(figures)


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
