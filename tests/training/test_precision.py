import pytest
import torch

from boustro.training import precision
from boustro.training.errors import TrainingError
from boustro.training.precision import resolve_precision

CPU = torch.device("cpu")


def test_auto_is_bf16_only_with_hardware_and_a_working_lstm(monkeypatch):
    for instructions, works in ((False, True), (True, False), (True, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda value=instructions: value)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        monkeypatch.setattr(precision, "lstm_runs_in_bf16", lambda value=works: value)
        assert resolve_precision("auto", CPU) == ("bf16" if instructions and works else "no")


def test_what_the_device_lacks_is_an_error(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    with pytest.raises(TrainingError, match=r"bf16.*--mixed-precision auto"):
        resolve_precision("bf16", CPU)
    with pytest.raises(TrainingError, match="fp16 needs a CUDA GPU, found cpu"):
        resolve_precision("fp16", CPU)
    assert resolve_precision("no", CPU) == "no"
