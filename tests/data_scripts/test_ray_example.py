import importlib.util
from pathlib import Path

import pytest

from boustro.data_scripts.arguments import DataArguments
from boustro.data_scripts.prepare import prepare

ray = pytest.importorskip("ray")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "prepare_with_ray.py"
BOAT = "A small boat with a red sail goes down the river, " + ", ".join(f"past hill {number}" for number in range(20))
LINES = [
    BOAT,
    "write to li@example.com",
    "12.5 13.7 88 99 100 2024 1999 77 66 55",
    "",
    "老人走到河边，看见一只红帆的小船，船上没有人。",
    BOAT,
    f"{BOAT} again.",
    "A small house stands by a mill near the water.",
    "A small house stands by a mill near the waters.",
    "一只白色的鸟站在树上\u200b",
]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("prepare_with_ray", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    ray.shutdown()


def test_ray_gives_what_the_command_gives(example, tmp_path, write):
    args = DataArguments(
        train_file=[write("lines.txt", "\n".join(LINES))],
        input_mode="documents",
        redact="replace",
        filters=["characters", "repetition", "boilerplate"],
        near_duplicates=True,
        validation_fraction=0.3,
    )
    rows = ray.data.from_items([{"text": line, "separator": "\n"} for line in LINES])
    assert example.prepare(rows, args, str(tmp_path / "out")) == 6
    texts = {row["text"] for row in ray.data.read_parquet(str(tmp_path / "out")).iter_rows()}
    data = prepare(args)
    documents = {
        data.tokenizer.decode(part.ids[start:stop].tolist())
        for part in (data.train, data.validation)
        for start, stop in zip(part.offsets[:-1], part.offsets[1:], strict=True)
    }
    boats = {text for text in LINES if text.startswith("A small boat")}
    assert texts - boats == documents - boats and len(texts & boats) == len(documents & boats) == 1
    assert "write to <EMAIL>" in texts
