import json
import os
import re
import shutil
import sys

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from boustro.data_scripts import shards
from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import main, parse, prepare
from boustro.data_scripts.segmentation import load_segmenter
from boustro.tokenization_boustro import BoustroTokenizer


def verse(number):
    """A paragraph like no other."""
    letters = np.random.default_rng(number).choice(list("abcdefghijklmnopqrstuvwxyz     "), 300)
    return f"Paper {''.join(letters).strip()}，第{'一二三四五六七八九十'[number % 10]}句。"


@pytest.fixture
def corpus(write):
    paragraphs = [verse(number) for number in range(60)]
    paragraphs[10] = "Write to li@example.com or call 13812345678, " + paragraphs[10]
    paragraphs[20] = paragraphs[5]  # an exact copy
    paragraphs[30] = paragraphs[6].replace("Paper", "Papers")  # a near one
    paragraphs[40] = "12.5 13.7 88 99 100 2024 1999 77 66 55"
    return write("corpus.txt", "\n\n".join(paragraphs) + "\n")


@pytest.fixture
def run(tmp_path, capsys):
    def run(*options, output="prepared", code=0):
        assert main([*options, "--output", str(tmp_path / output)]) == code
        streams = capsys.readouterr()
        return tmp_path / output if code == 0 else streams.err

    return run


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("input_mode", ["stream", "documents"])
def test_a_folder_to_train_from(corpus, run, input_mode):
    folder = run("--input", corpus, "--input-mode", input_mode, "--keep-dropped")
    splits = datasets.load_from_disk(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert list(splits) == ["train", "validation"]
    assert splits["train"].features["input_ids"].feature.dtype == "uint16"
    for row in splits["train"]:
        assert tokenizer.decode(row["input_ids"]) == row["text"]
        assert len(row["input_ids"]) == len(row["word_starts"])
    report = report_of(folder)
    assert report["dropped"] == {"digits": 1, "duplicate": 1, "near_duplicate": 1}
    assert report["redactions"] == {"email": 1, "phone": 1}
    assert report["input"]["rows"] == 60 and report["kept"]["rows"] == 57
    assert len(report["examples"]["digits"]) == 1
    text = "".join(splits["train"]["text"][:] + splits["validation"]["text"][:])
    assert "<EMAIL> or call <PHONE>" in text and "li@" not in text
    assert [path.name for path in sorted((folder / "dropped").iterdir())] == [
        "digits.jsonl", "duplicate.jsonl", "near_duplicate.jsonl",
    ]  # fmt: skip
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| train |" in card
    assert f"(median {report['lengths']['median']:,.0f}): 57 of 256 to 511." in card
    assert "## Dropped: digits (1)" in (folder / "report.md").read_text(encoding="utf-8")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")

    data = prepare(DataArguments(prepared=str(folder)))
    assert DataArguments(prepared=str(folder)).input_mode == input_mode
    assert data.report["train"] == report["train"] and "examples" not in data.report
    assert tokenizer.decode(data.train.ids.tolist()) == "".join(splits["train"]["text"][:])


@pytest.mark.parametrize("sample_by", ["line", "paragraph"])
def test_no_line_of_a_private_key_is_left(write, run, sample_by):
    key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEab\n\nCDefgh\n-----END RSA PRIVATE KEY-----"
    path = write("mail.txt", "\n\n".join([verse(1), key, *map(verse, range(2, 20))]))
    folder = run("--input", path, "--sample-by", sample_by, "--filters", "none")
    text = "".join(row["text"] for split in datasets.load_from_disk(str(folder)).values() for row in split)
    assert report_of(folder)["redactions"] == {"secret": 1}
    assert "<SECRET>" in text and "MIIE" not in text and "CDefgh" not in text


def test_mark_up_goes_where_a_blank_line_is_in_it(write, run):
    page = "<p>shown\n\n<!-- hidden\n\nhidden --> seen\n\n<script>\nhidden\n\nhidden()</script>\n\nend</p>"
    path = write("page.txt", "\n\n".join([page, *map(verse, range(20))]))
    folder = run("--input", path, "--strip-markup", "--filters", "none")
    text = "".join(row["text"] for split in datasets.load_from_disk(str(folder)).values() for row in split)
    assert "shown" in text and "seen" in text and "hidden" not in text


@pytest.mark.parametrize("streaming", [False, True])
def test_a_local_dataset_is_read_again_when_it_changes_and_no_path_is_told(tmp_path, run, streaming):
    folder = tmp_path / "secret place" / "sayings"
    folder.mkdir(parents=True)
    options = ("--streaming", "--max-characters", "20000") if streaming else ()
    for first in (0, 100):
        rows = [json.dumps({"text": verse(number)}) for number in range(first, first + 30)]
        (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
        os.utime(folder / "rows.jsonl", (first, first))
        prepared = run("--dataset-name", str(folder), *options)
        assert verse(first) in str([split["text"][:] for split in datasets.load_from_disk(str(prepared)).values()])
        for name in ("report.json", "report.md", "README.md"):
            assert "secret place" not in (prepared / name).read_text(encoding="utf-8")


def test_the_result_is_the_same_whatever_the_processes(corpus, run, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 3000)
    options = ("--input", corpus, "--input-mode", "documents", "--test-fraction", "0.1", "--seed", "3")
    one, two = run(*options, output="one"), run(*options, "--num-proc", "2", output="two")
    assert len(list((one / "work").glob("read-*/*.arrow"))) > 3
    first, second = datasets.load_from_disk(str(one)), datasets.load_from_disk(str(two))
    assert list(first) == ["train", "validation", "test"]
    for name in first:
        assert first[name].to_dict() == second[name].to_dict()
    assert report_of(one) == report_of(two)


def test_a_changed_option_reruns_what_depends_on_it(corpus, run):
    folder = run("--input", corpus)
    before = set(os.listdir(folder / "work"))
    run("--input", corpus, "--near-threshold", "0.9")
    added = {name.rpartition("-")[0] or name for name in set(os.listdir(folder / "work")) - before}
    assert {re.split(r"-[0-9a-f]{16}", name)[0] for name in added} <= {"near", "cuts", "count", "encode"}
    assert report_of(folder)["dropped"] == {"digits": 1, "duplicate": 1, "near_duplicate": 1}
    times = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.arrow")}
    run("--input", corpus, "--no-fix-mojibake")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert len(list((folder / "work").glob("clean-*"))) == 2 and len(list((folder / "work").glob("read-*"))) == 1


def test_a_stopped_run_goes_on(corpus, run, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("boustro.data_scripts.pipeline.group_exact", stop)
        assert "the same command goes on" in run("--input", corpus, code=130)
    judged = {path: path.stat().st_mtime_ns for path in (tmp_path / "prepared" / "work").rglob("*.arrow")}
    folder = run("--input", corpus)
    assert judged and all(path.stat().st_mtime_ns == time for path, time in judged.items())
    assert report_of(folder)["kept"]["rows"] == 57


ADVERSARIAL = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\r\n\t \ufeff\u200b\x00é中。\x85\u2028"), min_size=3
)


@given(text=ADVERSARIAL)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verbatim_keeps_every_byte(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    content = text.replace("\0", "\x01").encode("utf-8")  # a file with NUL is no text
    path.write_bytes(content)
    data = prepare(
        DataArguments(train_file=[str(path)], verbatim=True, sample_by="paragraph", validation_fraction=0.4)
    )
    decoded = [data.tokenizer.decode(part.ids.tolist()) for part in (data.train, data.validation)]
    assert "".join(decoded).encode("utf-8") == content


def test_copies_of_validation_text_leave_the_training_text(write):
    texts = [verse(number) for number in range(20)]
    train = write("train.txt", "\n\n".join(texts))
    held_out = write("valid.txt", "\n\n".join([texts[3], texts[4].replace("Paper", "Papers"), verse(77)]))
    args = DataArguments(
        train_file=[train],
        validation_file=[held_out],
        near_duplicates=True,
        sample_by="paragraph",
        input_mode="documents",
    )
    data = prepare(args)
    assert data.report["dropped"] == {"held_out": 2} and data.report["validation_dropped"] == {}
    assert (data.report["train"]["documents"], data.report["validation"]["documents"]) == (18, 3)


def test_rows_are_dropped_for_personal_data(write):
    path = write("a.txt", "write to li@example.com\n\nnothing\n\nhere\n")
    data = prepare(DataArguments(train_file=[path], redact="drop", sample_by="paragraph"))
    assert data.report["dropped"] == {"personal_data": 1} and data.report["redactions"] == {"email": 1}


def test_options_come_from_the_command_line_then_the_file_then_the_command(write):
    config = write("c.yaml", "near-threshold: 0.8\nredact: drop\nfilters: [repetition]\n")
    command, args = parse(["--config", config, "--redact", "keep", "--input", "a.txt", "b.txt", "--seed", "5"])
    assert (args.near_threshold, args.redact, args.filters) == (0.8, "keep", ["repetition"])
    assert (args.sample_by, args.near_duplicates, args.train_file) == ("paragraph", True, ["a.txt", "b.txt"])
    assert (command.seed, command.output) == (5, "prepared")


def test_a_checkpoint_keeps_its_vocabulary(corpus, run, tmp_path):
    tokenizer = BoustroTokenizer.train_from_iterator(["abc"])
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    folder = run("--input", corpus, "--tokenizer", str(tmp_path / "checkpoint"))
    assert prepare(DataArguments(prepared=str(folder)), tokenizer).tokenizer.characters == ["a", "b", "c"]
    other = run("--input", corpus, output="other")
    with pytest.raises(
        DataError, match=r"encoded with another vocabulary \(\d+ ids\) than the checkpoint's \(262 ids\)"
    ):
        prepare(DataArguments(prepared=str(other)), tokenizer)


CHINESE = "老人走到河边，看见一只红帆的小船，船上没有人，我们的时候他们也不知道这是什么。" * 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        ("老人走到河边\n".encode()[:-3] + b"\n" + CHINESE.encode(), "is damaged UTF-8"),
        (CHINESE.encode()[:-1], "is damaged UTF-8: .* unexpected end of data"),
        (CHINESE.encode("utf-16"), "it looks like UTF-16"),
        (CHINESE.encode("gb18030"), "it looks like GB18030"),
        (b"\x7fELF\x00\x01\x02", "holds a NUL byte"),
    ],
)
def test_files_that_are_no_utf8_are_refused_by_name(write, run, content, message):
    assert re.search(f"a.txt {message}|a.txt.*{message}", run("--input", write("a.txt", content), code=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "there is nothing to prepare: give --input FILES"),
        (["--input", "."], "is a directory, expected files"),
        (["--input", "none.txt"], "none.txt does not exist"),
        (["--input", "none.txt", "--filters", "spelling"], "filters is 'spelling', expected one of characters, rep"),
        (["--input", "none.txt", "--segmenter", "nothing:cut"], "none.txt does not exist"),
        (["--input", "none.txt", "--near-threshold", "2"], "near_threshold is 2.0, expected a number over 0"),
        (["--input", "none.txt", "--colour", "red"], "unrecognized arguments: --colour red; see --help"),
        (["--input", "none.txt", "--config", "none.yaml"], "--config none.yaml cannot be read"),
        (["--input", "none.txt", "--test-fraction", "0.95"], "that leave something to train on"),
        (["--input", "none.txt", "--tokenizer", "."], "no tokenizer can be loaded from there, expected the folder"),
    ],
)
def test_errors_of_the_command(run, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    error = run(*options, code=2)
    assert error.startswith("boustro: error: ") and message in error and error.count("\n") == 1


def test_a_missing_column(write, run):
    path = write("a.jsonl", '{"body": "one"}\n')
    assert "has no column 'text'; its columns are 'body'" in run("--input", path, code=2)


def test_a_segmenter_that_is_not_there(corpus, run):
    error = run("--input", corpus, "--segmenter", "nothing:cut", code=2)
    assert "segmenter is 'nothing:cut', expected a module and a function" in error


def test_a_segmenter_that_is_edited_cuts_anew(corpus, run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    starts = []
    for code in ("def cut(run): return [run]", "def cut(run): return list(run)"):
        (tmp_path / "edited_segmenter.py").write_text(code)
        sys.modules.pop("edited_segmenter", None)
        load_segmenter.cache_clear()
        folder = run("--input", corpus, "--segmenter", "edited_segmenter:cut")
        starts.append(sum(map(sum, datasets.load_from_disk(str(folder))["train"]["word_starts"])))
    assert starts[0] < starts[1]


def test_an_unfinished_folder(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        DataArguments(prepared=str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"holds no finished preparation \(report.json is missing\): run"):
        DataArguments(prepared=str(tmp_path))
    with pytest.raises(DataError, match="holds its own text"):
        DataArguments(prepared=str(tmp_path), train_file="a.txt")


def test_a_line_of_many_megabytes(write, run):
    text = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9000, 1_100_000)))
    report = report_of(run("--input", write("a.txt", text)))
    assert report["input"] == {"rows": 2, "characters": 1_100_000}
    assert report["dropped"] == {} and report["train"]["characters"] == 990_000


def test_a_text_of_which_nothing_is_left(write, run):
    text = write("digits.txt", "\n\n".join(["12.5 13.7 88 99 100 2024 1999 77 66 55"] * 5))
    assert "Nothing is left of" in run("--input", text, code=2)


def test_a_full_disk_while_near_copies_are_looked_for(corpus, run, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    message = run("--input", corpus, code=2)
    assert "No space left on device" in message and "Finished shards are kept" in message


def test_the_report_tells_no_folder_of_this_machine(corpus, run, write):
    blocklist = write("words.txt", "nonsense\n")
    folder = run("--input", corpus, "--blocklist", blocklist)
    parent = os.path.dirname(corpus)
    assert all(parent not in (folder / name).read_text(encoding="utf-8") for name in ("report.json", "report.md"))


def test_a_split_that_was_deleted_is_written_again(corpus, run):
    folder = run("--input", corpus)
    shutil.rmtree(folder / "train")
    assert len(datasets.load_from_disk(str(run("--input", corpus)))["train"])


def test_a_damaged_shard_is_named(corpus, run):
    shard = sorted((run("--input", corpus) / "work").rglob("*.arrow"))[0]
    shard.write_bytes(shard.read_bytes()[:100])
    (shard.parent.parent.parent / "report.json").unlink()
    message = run("--input", corpus, code=2)
    assert shard.name in message and "is damaged" in message and "delete this file" in message


def test_rules_of_the_command_can_be_switched_off(corpus, run):
    report = report_of(run("--input", corpus, "--filters", "none", "--no-near-duplicates", "--redact", "keep"))
    assert report["dropped"] == {"duplicate": 1} and report["redactions"] is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("num_proc: two", "num_proc is 'two', expected a whole number"),
        ("fix_mojibake: 'off'", "fix_mojibake is 'off', expected true or false"),
        ("filters:", "filters is None, expected a list, each a text"),
        ("canaries: [1, a]", r"canaries is \[1, 'a'\], expected a list, each a whole number"),
        ("near_threshold: high", "near_threshold is 'high', expected a number"),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_config(write, corpus, run, line, expected):
    message = run("--input", corpus, "--config", write("c.yaml", line), code=2)
    assert re.search(expected, message)
