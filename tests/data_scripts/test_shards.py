import os
import shutil
from pathlib import Path

import pytest
from datasets import Features, Value

from boustro.data_scripts import shards
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.shards import Shard, map_shards, numbers, step_key, write_rows

LENGTHS = Features({"length": Value("int64")})


def measure(batch):
    return {"length": [len(text) for text in batch["text"]]}


def measure_and_note(batch):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{batch['text'][0]}\n")
    return measure(batch)


@pytest.fixture
def notes(tmp_path, monkeypatch):
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("NOTES", str(path))
    return path


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three shards of two rows each."""
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 4)
    return write_rows(lambda: iter([(text, "\n") for text in ("a", "bb", "c", "dd", "e", "ff")]), tmp_path / "read")


def test_rows_are_written_once(three, tmp_path):
    assert [shard.open()["text"][:] for shard in three] == [["a", "bb"], ["c", "dd"], ["e", "ff"]]

    def fail():
        raise AssertionError("read again")

    assert write_rows(fail, tmp_path / "read") == three


@pytest.mark.parametrize("num_proc", [1, 2])
def test_results_are_in_order_whatever_the_processes(three, tmp_path, num_proc):
    mapped = map_shards(three, tmp_path / "map", measure, LENGTHS, "Measuring", num_proc)
    assert numbers(mapped, "length").tolist() == [1, 2] * 3


def test_finished_shards_are_not_made_again(three, tmp_path, notes):
    folder = tmp_path / "map"
    map_shards(three, folder, measure_and_note, LENGTHS, "Measuring")
    (folder / "00001.arrow").unlink()
    (folder / "tmp1234").touch()  # of a killed run
    notes.write_text("")
    mapped = map_shards(three, folder, measure_and_note, LENGTHS, "Measuring")
    assert notes.read_text() == "c\n"
    assert numbers(mapped, "length").tolist() == [1, 2] * 3
    assert sorted(path.name for path in folder.iterdir()) == ["00000.arrow", "00001.arrow", "00002.arrow"]


def test_chosen_rows(three):
    assert Shard(three[1].path, [1]).open()["text"][:] == ["dd"]


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_full_disk_keeps_finished_shards(three, tmp_path, monkeypatch, notes, num_proc):
    replace, folder = os.replace, tmp_path / "map"

    def fill(source, target):
        if str(target).endswith("map/00002.arrow"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fill)
    with pytest.raises(
        DataError, match=r"map cannot be written \(.*No space left.*Finished shards are kept: free some"
    ):
        map_shards(three, folder, measure_and_note, LENGTHS, "Measuring", num_proc)
    monkeypatch.setattr(os, "replace", replace)
    notes.write_text("")
    mapped = map_shards(three, folder, measure_and_note, LENGTHS, "Measuring", num_proc)
    assert notes.read_text() == "e\n"
    assert numbers(mapped, "length").tolist() == [1, 2] * 3


def test_keys_differ_with_what_they_stand_for():
    assert step_key("a", 1) == step_key("a", 1) != step_key("a", 2)


def test_keys_differ_with_the_code(tmp_path, monkeypatch):
    """So that finished shards of signatures are not mixed with those of another release."""
    copy = Path(shutil.copytree(Path(shards.__file__).parent, tmp_path / "data_scripts"))
    before = shards._code.__wrapped__()
    monkeypatch.setattr(shards, "__file__", str(copy / "shards.py"))
    assert shards._code.__wrapped__() == before
    changed = copy / "deduplication.py"
    changed.write_text(changed.read_text(encoding="utf-8").replace("SHORTEST = 200", "SHORTEST = 100"), "utf-8")
    assert shards._code.__wrapped__() != before
