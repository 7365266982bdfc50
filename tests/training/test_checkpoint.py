import json

import pytest
import torch

from boustro.training import checkpoint
from boustro.training.checkpoint import RunState
from tests.conftest import random_ids, small_model


def write(folder, text):
    beside = checkpoint.begin_folder(folder)
    (beside / "file").write_text(text)
    checkpoint.commit_folder(folder)


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "last"
    write(folder, "one")
    write(folder, "two")
    assert (folder / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_kill_while_filling_keeps_the_old_folder(tmp_path):
    folder = tmp_path / "last"
    write(folder, "one")
    (checkpoint.begin_folder(folder) / "file").write_text("half")
    checkpoint.recover_folder(folder)
    assert (folder / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_kill_between_the_renames_gives_the_new_folder(tmp_path, monkeypatch):
    folder = tmp_path / "last"
    write(folder, "one")
    beside = checkpoint.begin_folder(folder)
    (beside / "file").write_text("two")
    folder.rename(tmp_path / ".last.old")
    checkpoint.recover_folder(folder)
    assert (folder / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_half_written_first_checkpoint_is_none(tmp_path):
    (checkpoint.begin_folder(tmp_path / "last") / "file").write_text("half")
    checkpoint.recover_folder(tmp_path / "last")
    assert list(tmp_path.iterdir()) == []


def test_json_is_replaced_whole(tmp_path):
    checkpoint.write_json(tmp_path / "a.json", {"é": 1.1})
    checkpoint.write_json(tmp_path / "a.json", {"é": 0.1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": 0.1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("latent_size", [0, 4])
def test_recurrent_state_and_random_numbers_come_back(tmp_path, latent_size):
    model = small_model(latent_size=latent_size)
    ids = random_ids(3, 10)
    past = model(ids, target_ids=ids, use_cache=True).past_key_values.detach()
    device = torch.device("cpu")
    checkpoint.save_process_state(tmp_path, 0, [None, past], device)
    expected = torch.rand(3)
    none, restored = checkpoint.load_process_state(tmp_path, 0, 2, device)
    assert none is None
    assert torch.equal(torch.rand(3), expected)
    noise = torch.randn(3, 4, max(latent_size, 1))
    outputs = [model(ids, target_ids=ids, past_key_values=c, latent_noise=noise) for c in (past, restored)]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert checkpoint.has_process_state(tmp_path, 0) and not checkpoint.has_process_state(tmp_path, 1)


def test_counters_and_optimizer_come_back(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer.step()
    sums = {"loss": 1 / 3, "targets": 6.0, "characters": 2.0}
    state = RunState(step=3, seconds=1.5, best=0.1 / 3, history=[{"step": 3}], sums=sums, data="x", warmed_up=True)
    checkpoint.save_run_state(tmp_path, state, optimizer)
    assert checkpoint.load_run_state(tmp_path) == state
    fresh = torch.optim.AdamW([weight], lr=0.5)
    checkpoint.load_optimizer(tmp_path, fresh)
    assert torch.equal(fresh.state[weight]["exp_avg_sq"], optimizer.state[weight]["exp_avg_sq"])
    assert fresh.param_groups[0]["lr"] == 0.1


def test_counters_of_an_older_run_are_read(tmp_path):
    (tmp_path / "trainer_state").mkdir()
    path = tmp_path / "trainer_state" / "state.json"
    checkpoint.write_json(path, {"step": 3, "sums": {"kl": 1.0, "targets": 6.0}})
    state = checkpoint.load_run_state(tmp_path)
    assert state == RunState(step=3, sums={"kl": 1.0, "targets": 6.0, "characters": 6.0}, warmed_up=False)
