import pytest

from boustro.training.arguments import parse_arguments
from boustro.training.errors import TrainingError
from boustro.training.presets import EMBEDDED_CHARACTERS, choose_preset, corpus_characters


@pytest.mark.parametrize(
    ("characters", "minutes", "name"),
    [(50_000, 60, "tiny"), (1_000_000, 1, "tiny"), (1_000_000, 5, "small"), (1_000_000, 600, "small"),
     (5_000_000, 120, "base")],
)  # fmt: skip
def test_larger_presets_need_more_text_and_more_time(characters, minutes, name):
    assert choose_preset(characters, minutes).name == name


def test_size_of_a_corpus_is_that_of_its_files(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x" * 30, encoding="utf-8")
    assert corpus_characters({"train_file": [str(tmp_path / "*.txt")]}) == 60
    assert corpus_characters({"train_file": [str(tmp_path / "*.txt")], "max_characters": 7}) == 7
    assert corpus_characters({}) == EMBEDDED_CHARACTERS


def test_auto_sets_recipe_and_budget_and_options_override_it(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("x" * 1_000, encoding="utf-8")
    arguments = parse_arguments(["--auto", f"--train-file={text}", "--hidden-size=40"])
    assert (arguments.train.config, arguments.train.max_minutes, arguments.train.epochs) == ("tiny", 15.0, None)
    assert arguments.model.hidden_size == 40 and arguments.model.embedding_size == 48
    assert parse_arguments(["--auto", "--max-steps=3"]).train.max_minutes is None


def test_auto_and_a_recipe_exclude_each_other():
    with pytest.raises(TrainingError, match="--auto chooses among the recipes for long text, but --config is given"):
        parse_arguments(["--auto", "--config=small"])


def test_nonsense_budgets_reach_the_checks_that_name_them():
    with pytest.raises(TrainingError, match="--max-minutes is -1"):
        parse_arguments(["--auto", "--max-minutes=-1"])


def test_chinese_text_is_counted_in_characters(tmp_path):
    (tmp_path / "a.txt").write_text("红楼梦" * 100, encoding="utf-8")
    assert corpus_characters({"train_file": [str(tmp_path / "a.txt")]}) == 300
