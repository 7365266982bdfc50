import pytest

from boustro.training.arguments import TrainArguments
from boustro.training.loop import total_steps
from boustro.training.optimizer import build_optimizer
from tests.conftest import small_model


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_only_weight_matrices_decay(name):
    model = small_model()
    optimizer = build_optimizer(model, name, weight_decay=0.5)
    decaying = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decaying}
    assert "lm_head.weight" in names and "model.context.layers.0.weight_hh_l0" in names
    assert not any("bias" in name or "embedding" in name for name in names)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"epochs": 2.5}, 25),
        ({"max_steps": 7}, 7),
        ({"epochs": 2, "max_steps": 30}, 20),
        ({"max_minutes": 1}, None),
        ({"epochs": 0.01}, 1),
    ],
)
def test_total_steps(limits, expected):
    assert total_steps(TrainArguments(**limits), steps_per_epoch=10) == expected
