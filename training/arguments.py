"""The options of a training run as typed fields, and how recipe, command line and earlier run are put together.

    python train.py --config documents --train-file names.txt --max-minutes 10

A recipe gives values to any of the fields; the command line overrides it. `--resume` takes all values from the run
itself and lets the command line change those in `FREE_ON_RESUME`, and `TEXTS` where a checkpoint knows what they were.
"""

import argparse
import dataclasses
import difflib
import json
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import HfArgumentParser

from boustro.data_scripts.arguments import DataArguments
from boustro.training.errors import TrainingError, resuming_from
from boustro.training.presets import DEFAULT_MINUTES, choose_preset, corpus_characters

RECIPES = Path(__file__).parent.parent / "configs"
ARGUMENTS_FILE = "arguments.json"
LIMITS = ("epochs", "max_steps", "max_minutes")
TEXTS = ("train_file", "validation_file", "prepared")  # may name the same text in another place on --resume
HUB_OPTIONS = (
    *("push_to_hub", "hub_strategy", "hub_model_id", "hub_private_repo", "hub_token", "hub_revision"),
    "hub_exist_ok",
)
FREE_ON_RESUME = {
    *LIMITS,
    *HUB_OPTIONS,
    *(
        "learning_rate",
        "muon_learning_rate",
        "clip_norm",
        "eval_every",
        "patience",
        "save_every",
        "eval_characters",
        "mixed_precision",
        "cpu",
    ),
    *("report_to", "prompts", "language", "license"),
}


def option(default: Any, help: str) -> Any:
    """A dataclass field with a default and the help text of its command-line option."""
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The model: fields of `BoustroConfig` (unset ones keep its defaults), or a checkpoint to go on from."""

    _argument_group_name = "model"

    checkpoint: str | None = option(
        None,
        "Start from the weights and the tokenizer of this saved model (folder or Hub id). Its sizes stay; dropout, "
        "word_start_dropout, kl_floor, backward_weight and backward_horizon may be changed on the command line. Its "
        "latent is in use already: latent_warmup_fraction and kl_warmup_fraction are 0 unless given on the command "
        "line, and without a warm-up of the latent the weight of the KL starts at 1.",
    )
    embedding_size: int | None = option(None, "Size of a character embedding.")
    hidden_size: int | None = option(None, "Units of each layer of the context and generator LSTMs.")
    num_context_layers: int | None = option(None, "Layers of the LSTM that reads the past.")
    num_generator_layers: int | None = option(None, "Layers of the LSTM that predicts the next character.")
    latent_size: int | None = option(None, "Dimensions of a segment's latent; 0 is a plain LSTM language model.")
    latent_prior: Literal["conditional", "standard"] | None = option(
        None,
        "conditional (long text: a mixture whose weights the text before predicts) or standard (N(0, I): documents).",
    )
    prior_components: int | None = option(None, "Gaussians that the conditional prior mixes.")
    segment_length: int | None = option(None, "Characters that share one latent.")
    encoder_hidden_size: int | None = option(None, "Units of the posterior encoder.")
    backward_hidden_size: int | None = option(None, "Units of the backward decoder.")
    plan_skip: bool | None = option(None, "Let the softmax layer read the aligned plan directly, too (true or false).")
    dropout: float | None = option(None, "Locked dropout on the inputs of the LSTMs and of the output layer.")
    word_start_dropout: float | None = option(None, "Share of rows whose word starts are hidden from the encoder.")
    kl_floor: float | None = option(
        None, "Nats per segment at which training holds the KL; 0 trains on the pure bound."
    )
    backward_weight: float | None = option(None, "Weight of the backward decoder's own likelihood.")
    backward_horizon: float | None = option(None, "Characters over which that weight falls to 1/e; 0: it does not.")
    tie_word_embeddings: bool | None = option(None, "Share the embedding with the output layer (true or false).")


CHANGEABLE_OF_CHECKPOINT = ("dropout", "word_start_dropout", "kl_floor", "backward_weight", "backward_horizon")
WARMUPS_OF_LATENT = ("latent_warmup_fraction", "kl_warmup_fraction")  # that a checkpoint has behind it


@dataclass
class TrainArguments:
    """The run: where it writes, how long and how fast it learns."""

    _argument_group_name = "training"

    config: str = option("small", "Recipe: a shipped name (tiny, small, base, documents, shakespeare) or a YAML file.")
    auto: bool = option(
        False,
        "Choose the preset (tiny, small or base) by the size of the text and by --max-minutes (default 15); for long "
        "text. Other options still override it.",
    )
    output_dir: str = option("runs/default", "Folder for the checkpoints, the final model and its card.")
    overwrite_output_dir: bool = option(False, "Delete the run that output_dir holds and start anew.")
    resume: bool = option(False, "Go on with the run in output_dir, exactly where its last checkpoint was written.")
    batch_size: int = option(32, "Rows of one optimiser step, over all processes and accumulation pieces.")
    gradient_accumulation: int = option(
        1, "Pieces in which a step's rows are computed, one after another; saves memory, changes no result."
    )
    window_length: int = option(256, "stream: characters between two optimiser steps, a multiple of segment_length.")
    max_length: int = option(
        256, "documents: characters (end mark counted) that a row may hold; longer documents are cut into pieces."
    )
    epochs: float | None = option(None, "Stop after so many passes over the text.")
    max_steps: int | None = option(None, "Stop after so many optimiser steps.")
    max_minutes: float | None = option(
        None,
        "Stop after so many minutes. Of epochs, max_steps and max_minutes at least one is needed; the schedules "
        "follow the one that is reached first, and one given on the command line replaces those of the recipe.",
    )
    optimizer: Literal["muon", "adamw"] = option(
        "muon", "muon: Muon for the matrices of the LSTMs and AdamW for the rest; adamw: AdamW alone."
    )
    learning_rate: float = option(1e-2, "Peak learning rate of AdamW; where it trains alone, start from 4e-3.")
    muon_learning_rate: float = option(0.03, "Peak learning rate of Muon.")
    warmup_fraction: float = option(0.05, "Share of the training in which the learning rates rise to their peak.")
    weight_decay: float = option(0.01, "Weight decay of weight matrices (not of biases and embeddings).")
    adam_beta1: float = option(0.9, "Decay of AdamW's first moment.")
    adam_beta2: float = option(0.99, "Decay of AdamW's second moment.")
    latent_warmup_fraction: float = option(
        0.0,
        "Share of the training in which the latent is learnt: segments double from warmup_segment_length to "
        "segment_length, while KL floor and backward weight move from their warm-up values to the model's own.",
    )
    warmup_segment_length: int = option(8, "Characters that share one latent at the start of the latent's warm-up.")
    warmup_kl_floor: float = option(12.0, "KL floor at the start of the latent's warm-up.")
    warmup_backward_weight: float = option(1.0, "Weight of the backward decoder at the start of the latent's warm-up.")
    clip_norm: float = option(1.0, "Largest norm of the gradient.")
    kl_warmup_fraction: float = option(0.2, "Share of the training in which the weight of the KL rises from 0 to 1.")
    eval_every: int = option(200, "Steps between two looks at the validation split.")
    eval_characters: int = option(
        100_000, "Most characters of the validation split used during training; the final score uses all of it."
    )
    patience: int | None = option(
        None, "Stop early after so many evaluations without a better one; the best checkpoint is kept in any case."
    )
    save_every: int | None = option(None, "Steps between two checkpoints. Default: at every evaluation.")
    seed: int = option(0, "Seed of the split, the initial weights, the order of the data and all noise.")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = option("auto", "auto: bf16 where the hardware has it.")
    cpu: bool = option(False, "Train on the CPU even where there is a GPU.")
    report_to: list[str] = field(default_factory=list, metadata={"help": "Trackers: tensorboard, trackio."})
    prompts: list[str] = field(
        default_factory=list,
        metadata={"help": "Prompts of the samples printed at the end. Default: three without a prompt."},
    )
    language: list[str] = field(
        default_factory=list, metadata={"help": "Language codes for the model card, such as en or zh."}
    )
    license: str = option("unknown", "License for the model card, as the Hub spells it.")
    push_to_hub: bool = option(False, "Push the finished model to the Hugging Face Hub, as the hub options say.")
    hub_strategy: Literal["end", "every_save"] = option(
        "every_save",
        "end: push the finished model; every_save: besides, push the best model whenever training saves a better one, "
        "in the background (left out while an earlier push is under way).",
    )

    def __post_init__(self):
        """Raises `TrainingError` for values out of range."""
        if all(getattr(self, name) is None for name in LIMITS):
            raise TrainingError("set at least one of --epochs, --max-steps and --max-minutes, so that training ends.")
        positive = (
            "batch_size",
            "gradient_accumulation",
            "window_length",
            "learning_rate",
            "muon_learning_rate",
            "clip_norm",
            "warmup_segment_length",
        )
        for name in (*positive, *LIMITS, "eval_every", "eval_characters", "save_every", "patience"):
            value = getattr(self, name)
            _require(value is None or 0 < value < math.inf, name, value, "a number above 0")
        for name in ("warmup_fraction", "kl_warmup_fraction", "latent_warmup_fraction", "adam_beta1", "adam_beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number from 0 to below 1")
        for name in ("weight_decay", "warmup_kl_floor", "warmup_backward_weight"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or a positive number")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 2**32 - 1")
        _require(self.max_length >= 2, "max_length", self.max_length, "at least 2 characters")
        unknown = sorted(set(self.report_to) - {"tensorboard", "trackio"})
        _require(not unknown, "report_to", ", ".join(unknown), "tensorboard or trackio")


@dataclass
class HubArguments:
    """The repository on the Hub; names and meanings are those of transformers' `TrainingArguments`."""

    _argument_group_name = "hub"

    hub_model_id: str | None = option(
        None, "Repository: user/name, or a name under your own account. Default: the name of the model's folder."
    )
    hub_private_repo: bool | None = option(None, "Create the repository as a private one (true or false).")
    hub_token: str | None = option(
        None, "Token that may write there; it is never stored. Default: HF_TOKEN, or that of `hf auth login`."
    )
    hub_revision: str | None = option(None, "Branch to push to, made if need be. Default: main.")
    hub_exist_ok: bool = option(
        False, "Push into a repository that holds files already, as a new commit on top of them."
    )


@dataclass
class Arguments:
    """All options of a run.

    Attributes:
        given: the names that stood on the command line, of a resumed run also on its first one.
        command: the first command line, fit to be published.
    """

    model: ModelArguments
    data: DataArguments
    train: TrainArguments
    hub: HubArguments
    given: frozenset[str] = frozenset()
    command: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Every option under its own name; the token is kept nowhere."""
        options = {**vars(self.model), **vars(self.data), **vars(self.train), **vars(self.hub)}
        return {name: value for name, value in options.items() if name != "hub_token"}

    def kept(self) -> dict[str, Any]:
        """What `arguments.json` holds: `as_dict`, and `given` and `command` beside the options."""
        return {**self.as_dict(), "given": sorted(self.given), "command": self.command}

    def public(self) -> dict[str, Any]:
        """As `as_dict`, fit to be published: of paths only the last part."""
        return {name: public_value(name, value) for name, value in self.as_dict().items()}


PARTS = (ModelArguments, DataArguments, TrainArguments, HubArguments)
PATHS = (
    *("train_file", "validation_file", "prepared", "blocklist", "dataset_name"),
    *("output_dir", "checkpoint", "config"),
)


def public_value(name: str, value: Any) -> Any:
    """The value of an option without the folders of its path; a Hub id stays whole."""
    if isinstance(value, list):
        return [public_value(name, item) for item in value]
    if name not in PATHS or not isinstance(value, str):
        return value
    if name in ("checkpoint", "dataset_name") and value.count("/") < 2 and not Path(value).exists():
        return value
    return Path(value).resolve().name if Path(value).name in ("", "..") else Path(value).name


def public_command(argv: list[str]) -> str:
    """The command line of a run without its token, and of paths only the last part."""
    words, name = ["python", "train.py"], ""
    for word in argv:
        is_option = word.startswith("--")
        option_text, equals, value = word.partition("=") if is_option else ("", "", word)
        name = option_text[2:].replace("-", "_") if is_option else name
        if name == "hub_token":
            continue
        if is_option and not equals:
            words.append(word)
        else:
            words.append(f"{option_text}{equals}{public_value(name, value)}")
    return shlex.join(words)


def parse_arguments(argv: list[str]) -> Arguments:
    """Reads the command line and the recipe, or with `--resume` the arguments of the run that goes on.

    Raises `TrainingError` with a sentence for every option, recipe or value that is not valid.
    """
    parser = _Parser(
        PARTS,
        allow_abbrev=False,
        usage="%(prog)s [--config RECIPE] [options]",
        description="Trains a boustro model. What neither the command line nor the recipe sets has the default shown.",
    )
    given = parser.values_of(argv)
    if given.get("resume"):
        values = _values_of_run(Path(given.get("output_dir", TrainArguments.output_dir)), given)
    else:
        if given.get("auto"):
            given = _with_preset(given)
        values = _with_recipe(_read_recipe(given.get("config", TrainArguments.config), parser), given)
    model, data, train, hub = (_build(part, values) for part in PARTS)
    _check_prepared(data, given)
    names = frozenset(given) | frozenset(values.get("given", ()))
    return Arguments(model, data, train, hub, names, values.get("command", public_command(argv)))


class _Parser(HfArgumentParser):
    """HfArgumentParser that raises `TrainingError` instead of leaving the process, and can tell what was given."""

    def error(self, message: str):
        if found := re.fullmatch(r"argument (--\S+): Truthy value expected: got (.*) but expected one of .*", message):
            option, value = found.group(1).split("/")[-1], found.group(2)
            mend = ": the run's folder is --output-dir" if option == "--resume" else ""
            raise TrainingError(f"{option} is {value!r}, expected true or false{mend}.")
        raise TrainingError(message)

    @property
    def option_names(self) -> list[str]:
        return [field.name for part in self.dataclass_types for field in dataclasses.fields(part)]

    def values_of(self, flags: list[str]) -> dict[str, Any]:
        """The options that `flags` set, with their types; defaults are left out."""
        unset = object()
        namespace, rest = self.parse_known_args(flags, argparse.Namespace(**dict.fromkeys(self.option_names, unset)))
        if rest:
            raise TrainingError(f"unknown option {rest[0]!r}{self._closest(rest[0])}.")
        return {name: value for name, value in vars(namespace).items() if value is not unset}

    def _closest(self, flag: str) -> str:
        options = [f"--{name.replace('_', '-')}" for name in self.option_names]
        found = difflib.get_close_matches(flag.split("=")[0].replace("_", "-"), options, n=1)
        return f": did you mean {found[0]}" if found else "; options begin with --, see --help"


def _read_recipe(name: str, parser: _Parser) -> dict[str, Any]:
    """The values of a recipe, checked and converted as if they stood on the command line."""
    path = _recipe_path(name)
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise TrainingError(f"{path} holds no settings, expected lines such as 'hidden_size: 256'.")
    valid = sorted(set(parser.option_names) - {"config", "resume", "auto"})
    for key in recipe:
        if key not in valid:
            found = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.0)
            raise TrainingError(f"{path}: unknown key {key!r}; the closest valid key is {found[0]!r}.")
    try:
        return parser.values_of([flag for key, value in recipe.items() for flag in _as_flags(key, value)])
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def _with_recipe(recipe: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The options given over those of the recipe, which sets neither limits beside theirs nor, with a checkpoint,
    a warm-up of the latent."""
    if any(name in given for name in LIMITS):
        recipe = {name: value for name, value in recipe.items() if name not in LIMITS}
    values = recipe | given
    if values.get("checkpoint"):
        values |= {name: 0.0 for name in WARMUPS_OF_LATENT if name not in given}
    return values


def _check_prepared(data: DataArguments, given: dict[str, Any]) -> None:
    """Raises `TrainingError` for an option of data preparation beside a folder where that is done."""
    if not data.prepared:
        return
    names = {field.name for field in dataclasses.fields(DataArguments)} - {"prepared"}
    for name, value in given.items():
        if name in names and (name, value) != ("input_mode", data.input_mode):
            raise TrainingError(
                f"--{name.replace('_', '-')} is {value!r}, but the text in --prepared {data.prepared} was prepared "
                "already and is taken as it is: leave the option out, or prepare the text anew with it by "
                "python -m boustro.data_scripts.prepare."
            )


def _with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """The options with the recipe that `--auto` chooses, and with its time budget where no limit was given."""
    if "config" in given or given.get("input_mode") == "documents":
        found = "--config" if "config" in given else "--input-mode documents"
        raise TrainingError(f"--auto chooses among the recipes for long text, but {found} is given: leave one out.")
    minutes = given.get("max_minutes", DEFAULT_MINUTES)
    preset = choose_preset(corpus_characters(given), minutes)
    limited = any(name in given for name in LIMITS)
    return given | {"config": preset.name} | ({} if limited else {"max_minutes": minutes})


def _recipe_path(name: str) -> Path:
    if Path(name).suffix in (".yaml", ".yml") or len(Path(name).parts) > 1:
        if not Path(name).is_file():
            raise TrainingError(f"--config {name}: there is no such file.")
        return Path(name)
    shipped = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name not in shipped:
        raise TrainingError(f"--config {name}: no such recipe; there are {', '.join(shipped)}, or give a .yaml file.")
    return RECIPES / f"{name}.yaml"


def _as_flags(key: str, value: Any) -> list[str]:
    """A YAML value as command-line words; an empty value leaves the option at its default."""
    if value is None or value == []:
        return []
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, dict):
        raise TrainingError(f"the value of {key!r} is a mapping, expected a single value or a list.")
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}"]


def _values_of_run(output_dir: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The stored arguments of the run in `output_dir`, with those of `given` that may change."""
    path = output_dir / ARGUMENTS_FILE
    if not path.is_file():
        raise TrainingError(
            f"--resume: {output_dir} holds no run ({ARGUMENTS_FILE} is missing); leave --resume out to start one."
        )
    with resuming_from(path, output_dir):
        stored = {} | json.loads(path.read_text(encoding="utf-8"))
    if unknown := sorted(stored.keys() - option_defaults().keys() - {"given", "command"}):
        raise TrainingError(
            f"--resume: the run in {output_dir} was started with {unknown[0]}={stored[unknown[0]]!r}, an option that "
            "this version of boustro does not have; go on with the version that started it, or start a new run."
        )
    if any(name in given for name in LIMITS):
        stored |= dict.fromkeys(LIMITS)
    for name, value in given.items():
        free = name in FREE_ON_RESUME or name in ("resume", "output_dir")
        free = free or (name in TEXTS and (output_dir / "last").is_dir())
        if not free and value != stored.get(name):
            raise TrainingError(
                f"--{name.replace('_', '-')} is {value!r}, but the run in {output_dir} was started with "
                f"{stored.get(name)!r}; a resumed run cannot change it. Leave it out, or start a new run."
            )
    return stored | given | {"overwrite_output_dir": False}


def option_defaults() -> dict[str, Any]:
    """Every option with its default; an empty list for those that take several values."""
    options = [option for part in PARTS for option in dataclasses.fields(part)]
    return {option.name: [] if option.default is dataclasses.MISSING else option.default for option in options}


def _build(part: type, values: dict[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(part)}
    return part(**{name: value for name, value in values.items() if name in names})


def _require(condition: bool, name: str, found: Any, expected: str) -> None:
    if not condition:
        raise TrainingError(f"--{name.replace('_', '-')} is {found!r}, expected {expected}.")
