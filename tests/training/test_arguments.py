import dataclasses
import json
from pathlib import Path

import pytest
from transformers import PreTrainedConfig, TrainingArguments
from transformers.trainer_utils import HubStrategy

from boustro import BoustroConfig
from boustro.training.arguments import (
    ARGUMENTS_FILE,
    HUB_OPTIONS,
    RECIPES,
    ModelArguments,
    parse_arguments,
    public_command,
)
from boustro.training.errors import TrainingError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def recipe(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_the_command_line_overrides_the_recipe_and_the_recipe_the_defaults(recipe):
    path = recipe("learning_rate: 1e-3\nhidden_size: 96\nmax_steps: 5\nprompts: [a b, c]\ndeduplicate: false\n")
    arguments = parse_arguments(["--config", path, "--hidden-size", "48", "--batch_size=7"])
    assert arguments.train.learning_rate == 1e-3
    assert arguments.model.hidden_size == 48
    assert arguments.train.batch_size == 7
    assert arguments.train.prompts == ["a b", "c"]
    assert arguments.data.deduplicate is False
    assert arguments.model.latent_size is None
    assert arguments.given == {"config", "hidden_size", "batch_size"}


def test_a_limit_on_the_command_line_replaces_those_of_the_recipe(recipe):
    train = parse_arguments(["--config", recipe("epochs: 3\n"), "--max-minutes", "2"]).train
    assert (train.epochs, train.max_steps, train.max_minutes) == (None, None, 2.0)


@pytest.mark.parametrize(
    "path", sorted([*RECIPES.glob("*.yaml"), *BENCHMARKS.glob("*.yaml")]), ids=lambda path: path.stem
)
def test_shipped_recipes_are_valid(path):
    arguments = parse_arguments(["--config", path.stem if path.parent == RECIPES else str(path), "--max-steps=1"])
    sizes = {name: value for name, value in vars(arguments.model).items() if value is not None}
    config = BoustroConfig(**sizes)
    if arguments.data.input_mode == "stream":
        assert arguments.train.window_length % config.segment_length == 0


def test_every_config_field_of_ours_is_an_option():
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    own = {field.name for field in dataclasses.fields(BoustroConfig)} - inherited
    by_tokenizer = {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "use_cache"}
    options = {field.name for field in dataclasses.fields(ModelArguments)} - {"checkpoint"}
    assert own - by_tokenizer == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden_size: 3\n", r"recipe.yaml: unknown key 'hiden_size'; the closest valid key is 'hidden_size'"),
        ("batch_size: many\n", r"recipe.yaml: .*batch.size.*invalid int value: 'many'"),
        ("batch_size: {a: 1}\n", r"'batch_size' is a mapping"),
        ("a: b: c\n", r"recipe.yaml is no valid YAML.*line 1"),
        ("", r"holds no settings"),
        ("mixed_precision: fp8\n", r"invalid choice: 'fp8'"),
        ("seed: 1\n", r"at least one of --epochs, --max-steps and --max-minutes"),
        ("max_steps: 5\nwarmup_fraction: 1.5\n", r"--warmup-fraction is 1.5, expected a number from 0 to below 1"),
        ("max_steps: 5\nreport_to: wandb\n", r"--report-to is 'wandb', expected tensorboard or trackio"),
        ("max_steps: 5\nlearning_rate: 0\n", r"--learning-rate is 0.0, expected a number above 0"),
    ],
)
def test_errors_of_a_recipe_name_the_key(recipe, text, message):
    with pytest.raises(TrainingError, match=message):
        parse_arguments(["--config", recipe(text)])


def test_what_is_published_of_the_options_holds_no_folder_and_no_token(tmp_path):
    argv = ["--train-file", "/home/otto/a.txt", "../b.txt", "--output-dir=/home/otto/runs/x", "--max-steps", "3"]
    argv += ["--hub_token", "hf_secret", "--hub-model-id", "otto/x", "--checkpoint", "user/base"]
    command = "python train.py --train-file a.txt b.txt --output-dir=x --max-steps 3 --hub-model-id otto/x "
    assert public_command(argv) == command + "--checkpoint user/base"
    assert public_command(["--hub-token=hf_secret", "--prompts", "a/b"]) == "python train.py --prompts a/b"
    arguments = parse_arguments(argv)
    assert arguments.hub.hub_token == "hf_secret" and "hf_secret" not in json.dumps(arguments.as_dict())
    public = arguments.public()
    assert public["train_file"] == ["a.txt", "b.txt"] and public["output_dir"] == "x"
    assert public["checkpoint"] == "user/base"
    prepared = ["--prepared", "/home/otto/p", "--blocklist=/home/otto/b.txt", "--dataset-name", "/home/otto/texts"]
    assert public_command(prepared) == "python train.py --prepared p --blocklist=b.txt --dataset-name texts"
    assert public_command(["--dataset-name", "user/texts"]) == "python train.py --dataset-name user/texts"
    assert parse_arguments(["--checkpoint", str(tmp_path), "--max-steps", "1"]).public()["checkpoint"] == tmp_path.name


def test_hub_options_are_those_of_transformers():
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert {name for name in HUB_OPTIONS if name not in names} == {"hub_exist_ok"}
    strategies = {strategy.value for strategy in HubStrategy}
    for strategy in ("end", "every_save"):
        assert strategy in strategies
        assert parse_arguments(["--push-to-hub", "--hub-strategy", strategy]).train.hub_strategy == strategy


def test_unknown_options_and_recipes_name_the_closest():
    with pytest.raises(TrainingError, match=r"unknown option '--hiden-size': did you mean --hidden-size"):
        parse_arguments(["--hiden-size", "3"])
    with pytest.raises(TrainingError, match=r"no such recipe; there are base, documents, shakespeare, small, tiny"):
        parse_arguments(["--config", "defualt"])
    with pytest.raises(TrainingError, match=r"there is no such file"):
        parse_arguments(["--config", "no/such.yaml"])


def test_resume_takes_the_arguments_of_the_run(tmp_path):
    started = parse_arguments(["--output-dir", str(tmp_path), "--seed", "5", "--batch-size", "9", "--max-steps", "30"])
    (tmp_path / ARGUMENTS_FILE).write_text(json.dumps(started.as_dict()), encoding="utf-8")
    again = parse_arguments(["--output-dir", str(tmp_path), "--resume", "--max-steps", "60"])
    assert (again.train.seed, again.train.batch_size, again.train.max_steps) == (5, 9, 60)
    assert again.model == started.model
    assert again.command.endswith("--resume --max-steps 60")  # a file of before the first command was kept
    (tmp_path / ARGUMENTS_FILE).write_text(json.dumps(started.kept()), encoding="utf-8")
    argv = ["--output-dir", str(tmp_path), "--resume", "--config", "small"]
    again = parse_arguments([*argv, "--hub-token", "hf_secret"])
    assert again.command == started.command and "seed" in again.given and "hf_secret" not in json.dumps(again.kept())
    with pytest.raises(TrainingError, match=r"--config is 'base', but the run in .* was started with 'small'"):
        parse_arguments(["--output-dir", str(tmp_path), "--resume", "--config", "base"])
    with pytest.raises(TrainingError, match=r"--batch-size is 4, but the run in .* was started with 9"):
        parse_arguments(["--output-dir", str(tmp_path), "--resume", "--batch-size", "4"])
    (tmp_path / ARGUMENTS_FILE).write_text(json.dumps({**started.kept(), "rewind": 4}), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"was started with rewind=4, an option that .* does not have"):
        parse_arguments(["--output-dir", str(tmp_path), "--resume"])
    with pytest.raises(TrainingError, match=r"holds no run"):
        parse_arguments(["--output-dir", str(tmp_path / "other"), "--resume"])


def test_a_checkpoint_has_the_warm_up_of_its_latent_behind_it():
    train = parse_arguments(["--checkpoint", "runs/mine"]).train
    assert train.latent_warmup_fraction == train.kl_warmup_fraction == 0
    train = parse_arguments(["--checkpoint", "runs/mine", "--latent-warmup-fraction", "0.1"]).train
    assert train.latent_warmup_fraction == 0.1
    assert parse_arguments([]).train.latent_warmup_fraction > 0
