"""The commands, run as the shell runs them, on a model saved as training saves it."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from boustro import BoustroTokenizer
from boustro.commands import common
from boustro.commands.main import main
from tests.conftest import small_model

TEXTS = ["anna", "a longer text", "汉字 😀"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder, model and tokenizer."""
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = BoustroTokenizer.train_from_iterator(["abcdefghijklmnopqrstuvwxyz 汉字"])
    model = small_model(vocab_size=len(tokenizer), latent_prior="standard", segment_length=16)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), model, tokenizer


@pytest.fixture
def shell(monkeypatch, capsys):
    """Runs a command on an input; returns exit code, lines of stdout, and stderr."""

    def run(*arguments, text=""):
        data = text if isinstance(text, bytes) else text.encode()
        stdin = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys.stdout, "reconfigure", lambda **options: None, raising=False)
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_generate_goes_on_with_every_line(saved, shell):
    folder, model, tokenizer = saved
    code, lines, _ = shell("generate", folder, "--greedy", "--max-new-tokens", "9", text="anna\n\nb\r\n")
    assert code == 0 and len(lines) == 3 and lines[0].startswith("anna") and lines[2].startswith("b")
    batch = tokenizer("anna", return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=9, do_sample=False)
    assert lines[0] == tokenizer.decode(ids[0], skip_special_tokens=True)


def test_generate_is_reproducible_and_steered(saved, shell):
    folder, *_ = saved
    asked = ("generate", folder, "--prompt", "an", "--num-return-sequences", "2", "--temperature", "1.5", "--json")
    runs = [shell(*asked, *more)[1] for more in ((), (), ("--seed", "1"), ("--like", "a longer text"))]
    assert runs[0] == runs[1] and runs[0] != runs[2] and runs[0] != runs[3]
    results = [json.loads(line) for line in runs[0]]
    assert len(results) == 2 and {"prompt", "text"} == set(results[0])
    assert results[0]["text"].startswith("an") and results[0]["text"] != results[1]["text"]
    (new,) = shell("generate", folder, "--prompt", "an", "--greedy", "--only-new")[1]
    assert shell("generate", folder, "--prompt", "an", "--greedy")[1] == ["an" + new]


def test_reconstruct_and_interpolate_are_those_of_the_model(saved, shell):
    folder, model, tokenizer = saved
    _, lines, _ = shell("reconstruct", folder, "--json", "--backward", text="\n".join(TEXTS))
    found = [json.loads(line) for line in lines]
    assert [each["text"] for each in found] == TEXTS
    assert [each["reconstruction"] for each in found] == model.reconstruct(TEXTS, tokenizer)
    drafts = model.backward(model.encode(TEXTS, tokenizer).mean, tokenizer)
    assert found[0]["backward"] == drafts[0][0]
    _, lines, _ = shell("interpolate", folder, *TEXTS[:2], "--steps", "3", "--spherical", "--json")
    texts = model.interpolate(*TEXTS[:2], 3, True, tokenizer)
    a, b = TEXTS[:2]
    assert [json.loads(line) for line in lines] == [
        {"a": a, "b": b, "step": i, "text": text} for i, text in enumerate(texts)
    ]


def test_interpolate_reads_pairs_and_writes_files(saved, shell, tmp_path):
    folder, model, tokenizer = saved
    pairs = [["anna", "a longer text"], ["b", "anna"], ["汉字", "anna"]]
    source, target = tmp_path / "pairs.tsv", tmp_path / "out.jsonl"
    source.write_text("".join(f"{a}\t{b}\r\n\n" for a, b in pairs), encoding="utf-8", newline="")
    options = ("--steps", "3", "--max-new-tokens", "7", "--batch-size", "2")
    asked = ("interpolate", folder, *options, "--input", str(source), "--output", str(target), "--json")
    assert shell(*asked)[:2] == (0, [])
    found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    expected = [
        {"a": a, "b": b, "step": step, "text": text}
        for a, b in pairs
        for step, text in enumerate(model.interpolate(a, b, 3, tokenizer=tokenizer, max_new_tokens=7))
    ]
    assert found == expected
    _, lines, _ = shell("interpolate", folder, *options, text=source.read_bytes())
    assert lines == "\n".join(each["text"] for each in expected).splitlines()


def test_score_reads_and_writes_files(saved, shell, tmp_path):
    folder, *_ = saved
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    code, lines, _ = shell("score", folder, "--json", "--input", str(source), "--output", str(target))
    assert (code, lines) == (0, [])
    found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [each["text"] for each in found] == TEXTS and found[0]["characters"] == 5
    assert found[1]["bits_per_character"] == pytest.approx(found[1]["nats"] / 14 / math.log(2))
    _, lines, _ = shell("score", folder, "--whole", "--samples", "3", "--json", text="two\nlines")
    assert json.loads(lines[0])["text"] == "two\nlines" and len(lines) == 1


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["score", "nowhere"], "a", "there is no such folder"),
        (["score", "{folder}"], "", "stdin holds no text"),
        (["score", "{folder}"], b"\xff\xfe\x00", "stdin is not UTF-8"),
        (["score", "{folder}", "--input", "missing.txt"], "", "missing.txt"),
        (["score", "{folder}", "--samples", "0"], "a", "samples is 0"),
        (["score", "{folder}", "--batch-size", "0"], "a", "--batch-size is 0"),
        (["interpolate", "{folder}", "a", "b", "--steps", "1"], "", "steps is 1"),
        (["interpolate", "{folder}", "a"], "", "one text was given, 'a', expected two"),
        (["interpolate", "{folder}", "a", "b", "--input", "c"], "", "--input were both given"),
        (["interpolate", "{folder}"], "a\tb\na b\n", "stdin holds 'a b', expected two texts with a tab between"),
        (["interpolate", "{folder}"], "", "stdin holds no text"),
        (["interpolate", "{folder}", "a", "b", "--max-new-tokens", "0"], "", "--max-new-tokens is 0"),
        (["generate", "{folder}", "--prompt", "a", "--device", "foo"], "", "--device foo: torch cannot use it here"),
        (["generate", "{folder}", "--prompt", "a", "--device", "cuda:99"], "", "--device cuda:99: torch cannot"),
        (["generate", "{folder}", "--prompt", "a", "--stop", ""], "", "--stop is empty"),
        (["score", "{folder}", "--seed", "-1"], "a", "--seed is -1, expected a whole number from 0"),
        (["score", "{folder}", "--seed", str(2**63)], "a", "--seed is 9223372036854775808"),
        (["generate", "{folder}", "--latent-temperature", "-1"], "a", "latent_temperature is -1"),
        (["generate", "{folder}", "--prompt", "a", "--num-beams", "0"], "", "--num-beams is 0"),
        (["generate", "{folder}", "--prompt", "a", "--top-p", "5"], "", "--top-p is 5.0, expected a number above 0"),
        (["onnx", "{folder}", "{folder}"], "", "holds a model, whose tokenizer.json would be replaced"),
        (["generate", "{folder}", "--prompt", "a", "--input", "b"], "", "--prompt was given with --input or --whole"),
        (
            ["generate", "{folder}", "--prompt", "a", "--temperature", "inf"],
            "",
            "--temperature is inf, expected",
        ),
        (["generate", "{folder}", "--prompt", "a", "--temperature", "1e-40"], "", "A character has no probability"),
        (["vectors", "{folder}", "--output", "a", "--projector", "b"], "a", "expected one of them"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(saved, shell, arguments, text, message):
    code, lines, err = shell(*(argument.format(folder=saved[0]) for argument in arguments), text=text)
    assert code == 2 and lines == []
    assert err.startswith("boustro: error: ") and message in err and len(err.splitlines()) == 1


def test_an_error_leaves_the_output_of_before(shell, tmp_path):
    target = tmp_path / "results.jsonl"
    target.write_text("dear\n", encoding="utf-8")
    assert shell("score", "nowhere", "--output", str(target), text="a")[0] == 2
    assert target.read_text(encoding="utf-8") == "dear\n"


def test_ctrl_c_is_no_traceback(saved, shell, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(common, "load_checkpoint", interrupted)
    assert shell("score", saved[0], text="a") == (130, [], "boustro: stopped.\n")


def test_bytes_that_are_no_text_are_replaced(saved, shell):
    text = "a\udcff"  # how Python reads the byte 0xFF of a command line
    _, lines, _ = shell("generate", saved[0], "--greedy", "--max-new-tokens", "3", "--prompt", text, "--like", text)
    assert lines[0].startswith("a\ufffd")
    code, lines, _ = shell("interpolate", saved[0], text, "anna", "--json")
    assert code == 0 and json.loads(lines[0])["a"] == "a\ufffd"


def test_weights_of_another_size_are_one_sentence(saved, shell, tmp_path):
    for file in Path(saved[0]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_size": 20}
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, _, err = shell("score", str(tmp_path), text="a")
    assert code == 2 and "config.json does not fit the weights" in err and err.count("boustro: error") == 1


def test_a_damaged_config_is_one_sentence(saved, shell, tmp_path):
    config = json.loads((Path(saved[0]) / "config.json").read_text()) | {"segment_length": 0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, _, err = shell("score", str(tmp_path), text="a")
    assert code == 2 and "segment_length is 0" in err and len(err.splitlines()) == 1


def test_python_m_boustro_is_the_command(saved):
    run = subprocess.run(
        [sys.executable, "-m", "boustro", "reconstruct", saved[0]], input="anna\n", capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("anna\t")
