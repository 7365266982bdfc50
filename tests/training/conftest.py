"""Small texts, a tiny recipe and single-threaded arithmetic for the training tests."""

from pathlib import Path

import numpy as np
import pytest

WORDS = "the a cat dog sat ran on mat under tree, and then. It was: (very) old house of stone 12 days"

TINY = {
    "hidden_size": 24,
    "embedding_size": 12,
    "latent_size": 4,
    "segment_length": 16,
    "latent_warmup_fraction": 0.5,
    "warmup_segment_length": 4,
    "encoder_hidden_size": 12,
    "backward_hidden_size": 12,
    "dropout": 0.1,
    "batch_size": 8,
    "window_length": 32,
    "max_length": 32,
    "eval_every": 5,
    "eval_characters": 300,
    "learning_rate": 0.01,
    "mixed_precision": "no",  # equalities up to the order of sums hold in float32
}


def make_text(characters: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    lines, length = [], 0
    while length < characters:
        lines.append(" ".join(rng.choice(WORDS.split(), size=rng.integers(3, 9))))
        length += len(lines[-1]) + 1
    return "\n".join(lines)[:characters]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(make_text(4000), encoding="utf-8")
    return path


def flags(text_file: Path, output_dir: Path, **options) -> list[str]:
    """A command line for the tiny recipe, `options` on top of it."""
    values = {"train_file": text_file, "output_dir": output_dir, "cpu": True, "max_steps": 20, **TINY, **options}
    recipe = Path(text_file).parent / "empty.yaml"
    recipe.write_text("seed: 0\n", encoding="utf-8")
    return [f"--config={recipe}", *(f"--{name.replace('_', '-')}={value}" for name, value in values.items())]
