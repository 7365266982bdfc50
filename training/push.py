"""Pushes a model folder to the Hugging Face Hub: weights, code, tokenizer, card and pictures, and nothing else.

    python -m boustro.training.push runs/mine --hub-model-id user/name
    python -m boustro.training.push runs/mine --hub-model-id user/name --hub-private-repo true
    python -m boustro.training.push runs/mine --hub-model-id user/name --hub-exist-ok --hub-revision v2

`train.py --push-to-hub` does the same at its end. Log in before with `hf auth login`, or set HF_TOKEN.
"""

import argparse
import re
import shlex
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    ModelCardData,
    constants,
    get_token,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id
from transformers import HfArgumentParser
from transformers.utils import logging

import boustro
from boustro.training.arguments import HubArguments
from boustro.training.errors import TrainingError

logger = logging.get_logger(__name__)

PUBLISHED = (
    *("README.md", "metrics.json", "training_curves.png", "alignment.png", "latent_map.png", "unit_kl.png"),
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("model.safetensors", "model.safetensors.index.json"),
    *sorted(path.name for path in Path(boustro.__file__).parent.glob("*_boustro.py")),
)
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")
# fields of the card's head, and the options of train.py that fill them
CARD_OPTIONS = {
    "license": "--license",
    "language": "--language",
    "datasets": "--dataset-name",
    "base_model": "--checkpoint",
}
# the line of the card's snippets that names the model
CARD_MODEL = re.compile(r'^(model_id = ").*(")$', flags=re.M)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after an error, printed as one sentence."""
    hub, options = parse(argv)
    try:
        check_folder(options.folder)
        check_target(hub, options.folder)
        repository = Repository.open(hub, options.folder)
        print(f"pushed: {repository.push(options.folder, 'Push model')}")
    except TrainingError as error:
        print(f"boustro: error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(argv: list[str] | None) -> tuple[HubArguments, argparse.Namespace]:
    """The command line: the options of the repository, and a namespace with `folder`."""
    parser = HfArgumentParser(
        HubArguments, prog="python -m boustro.training.push", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="Folder of a finished run, or of any saved boustro model.")
    return parser.parse_args_into_dataclasses(argv)


def push_command(folder: Path, hub: HubArguments) -> str:
    """The command line that pushes a folder."""
    words = ["python", "-m", "boustro.training.push", str(folder), "--hub-model-id", hub_name(hub, folder)]
    words += ["--hub-private-repo", "true"] if hub.hub_private_repo else []
    words += ["--hub-revision", hub.hub_revision] if hub.hub_revision else []
    words += ["--hub-exist-ok"] if hub.hub_exist_ok else []
    return shlex.join(words)


def check_folder(folder: Path) -> None:
    """Raises `TrainingError` if the folder holds no whole model in safetensors."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = [name for name in NEEDED if name not in present]
    if missing == ["model.safetensors"] and "model.safetensors.index.json" in present:
        missing = []
    if missing:
        found = f"holds no {', '.join(missing)}" if folder.is_dir() else "is no folder"
        raise TrainingError(f"{folder} {found}: give the folder of a finished run.")


def check_target(hub: HubArguments, folder: Path) -> None:
    """Raises `TrainingError` for a name that cannot be and for a missing token, without asking the network."""
    name = hub_name(hub, folder)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise TrainingError(
            f"--hub-model-id {name!r} is no name of a repository: expected name or user/name of letters, digits, '-', "
            f"'_' and '.', at most 96 of them ({_first_line(error)})"
        ) from error
    if not (hub.hub_token or get_token()):
        raise TrainingError(
            "pushing to the Hub needs a token, and none was found: log in with `hf auth login`, set HF_TOKEN, or give "
            "--hub-token."
        )


def check_metadata(metadata: ModelCardData, name: str) -> None:
    """Asks the Hub whether it takes a card with this head.

    Raises `TrainingError`, which names the options that filled what is refused, and if the Hub cannot be reached.
    """
    try:
        ModelCard(f"---\n{metadata.to_yaml()}\n---\n").validate()
    except Exception as error:
        if not is_refused_card(error):
            raise TrainingError(describe(error, name, constants.ENDPOINT)) from error
        reason = " ".join(str(error).removeprefix("- Error:").split())
        fields = {field: metadata.get(field) for field in CARD_OPTIONS if f'"{field}' in reason}
        given = [f"{CARD_OPTIONS[field]} {_words(value)!r}" for field, value in fields.items()]
        raise TrainingError(
            f"the Hub refuses a card with {' and '.join(given) or 'this head'} ({reason}): give what it knows."
        ) from error


def _words(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def hub_name(hub: HubArguments, folder: Path) -> str:
    """The repository's name as it was given, or that of the folder."""
    return hub.hub_model_id or folder.resolve().name


def published_files(folder: Path) -> list[Path]:
    """The files of a model folder that a push uploads; all else stays here."""
    return sorted(path for path in folder.iterdir() if is_published(path.name))


def is_published(name: str) -> bool:
    """Whether a push uploads files of this name."""
    return name in PUBLISHED or SHARD.fullmatch(name) is not None


def is_loaded(name: str) -> bool:
    """Whether a file of this name holds weights or code, which a model is loaded from."""
    return is_published(name) and (name.startswith("model") or name.endswith(".py"))


class Repository:
    """A repository on the Hub that exists and may be written to; see `open`.

    Attributes:
        name: user/name.
    """

    def __init__(self, api: HfApi, name: str, hub: HubArguments):
        self.api, self.name, self.hub = api, name, hub
        self._under_way: Future | None = None

    @classmethod
    def open(cls, hub: HubArguments, folder: Path) -> "Repository":
        """Makes the repository and its branch if need be.

        Raises `TrainingError` if the Hub cannot be reached, refuses, lets the token read only, or holds files there
        that may not be added to, and if the repository is public although a private one was asked for.
        """
        api, name = HfApi(token=hub.hub_token), hub_name(hub, folder)
        try:
            name = api.create_repo(name, private=hub.hub_private_repo, exist_ok=True).repo_id
            api.auth_check(name, write=True)  # of one that exists already, the line above says nothing
            if hub.hub_private_repo:
                cls._check_private(api, name)
            cls._claim_branch(api, name, hub)
        except TrainingError:
            raise
        # whatever it is, from the network to the server's mind, the user needs one sentence
        except Exception as error:
            raise TrainingError(describe(error, name, api.endpoint)) from error
        return cls(api, name, hub)

    @staticmethod
    def _check_private(api: HfApi, name: str) -> None:
        if not api.model_info(name).private:
            raise TrainingError(
                f"--hub-private-repo: the repository {name} exists and is public: make it private in its settings, or "
                "choose another name."
            )

    @staticmethod
    def _claim_branch(api: HfApi, name: str, hub: HubArguments) -> None:
        """Refuses a branch in use, unless it may be added to; makes a missing one."""
        missing = False
        try:
            files = api.list_repo_files(name, revision=hub.hub_revision)
        except RevisionNotFoundError:
            missing, files = True, api.list_repo_files(name)  # it will be cut from main, with these files
        files = [file for file in files if file != ".gitattributes"]
        if files and not hub.hub_exist_ok:
            raise TrainingError(
                f"--hub-model-id: the repository {name} exists and holds {len(files)} files (such as {files[0]}): "
                "choose another name, or push on top of them with --hub-exist-ok."
            )
        if missing:
            api.create_branch(name, branch=hub.hub_revision)

    def push(self, folder: Path, message: str) -> str:
        """One commit of `published_files`; returns its address. The card's snippets then name the repository.

        Weights and code in the repository that the folder does not have go in the same commit. Raises
        `TrainingError`, which says what went wrong and how to push again; the folder stays as it is.
        """
        self._wait()
        # during training something may have arrived before
        command = push_command(folder, replace(self.hub, hub_model_id=self.name, hub_exist_ok=True))
        again = f"push it again{', giving --hub-token as before,' if self.hub.hub_token else ''} with: {command}"
        try:
            operations = self._operations(folder)
        except TrainingError as error:
            raise TrainingError(
                f"the push failed: {error} Mend or remove that file; the model is in {folder}, {again}"
            ) from error
        try:
            return self._commit(operations, message)
        except Exception as error:
            mend = f"mend the head of {folder / 'README.md'}, then " if is_refused_card(error) else ""
            raise TrainingError(
                f"the push failed: {describe(error, self.name, self.api.endpoint)} The model is complete in {folder}; "
                f"{mend}{again}"
            ) from error

    def push_unfinished(self, folder: Path, step: int, nats: float) -> None:
        """Pushes the model that training has just saved, in the background, unless an earlier push is under way."""
        if self._under_way is not None and not self._under_way.done():
            return
        self._wait()
        operations = self._operations(folder)  # read now: training replaces the folder
        card = unfinished_card(self.name, step, nats)
        operations.append(CommitOperationAdd("README.md", card.encode()))
        self._under_way = self.api.run_as_future(self._commit, operations, f"Training in progress, step {step}")

    def _wait(self) -> None:
        """Ends the push in the background; one that failed is only worth a warning, for another one follows."""
        if self._under_way is not None and (error := self._under_way.exception()):
            logger.warning("A push during training failed: %s", describe(error, self.name, self.api.endpoint))
        self._under_way = None

    def _operations(self, folder: Path) -> list[CommitOperationAdd]:
        """Raises `TrainingError`, which names the file, if one cannot be read."""
        contents = {path.name: _read(path) for path in published_files(folder)}
        if "README.md" in contents:
            card = _decode(folder / "README.md", contents["README.md"])
            contents["README.md"] = name_model(card, self.name).encode()
        return [CommitOperationAdd(name, content) for name, content in contents.items()]

    def _commit(self, operations: list[CommitOperationAdd], message: str) -> str:
        """Adds these files, and deletes weights and code that they do not bring: weights that were in one file and are
        in several now would be loaded in their place."""
        revision, added = self.hub.hub_revision, {operation.path_in_repo for operation in operations}
        present = self.api.list_repo_files(self.name, revision=revision)
        stale = [CommitOperationDelete(name) for name in present if is_loaded(name) and name not in added]
        commit = self.api.create_commit(self.name, [*operations, *stale], commit_message=message, revision=revision)
        return str(commit.commit_url)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}.") from error


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def name_model(card: str, model_id: str) -> str:
    """The card with `model_id` in its snippets."""
    return CARD_MODEL.sub(lambda found: f"{found[1]}{model_id}{found[2]}", card)


def unfinished_card(name: str, step: int, nats: float) -> str:
    """The card of a model that is still being trained."""
    metadata = ModelCardData(library_name="transformers", pipeline_tag="text-generation", tags=["boustro"])
    return (
        f"---\n{metadata.to_yaml()}\n---\n\n# {name.split('/')[-1]}\n\nTraining is under way: this is the best model "
        f"so far, after step {step}, with a bound of {nats:.4f} nats per character on the beginning of the validation "
        "text. The whole card comes with the finished model.\n"
    )


def is_refused_card(error: BaseException) -> bool:
    """Whether huggingface_hub says by this error that the Hub does not take the head of a card."""
    return type(error) is ValueError  # not a subclass, such as that of an answer that is no JSON


def describe(error: BaseException, name: str, endpoint: str) -> str:
    """What went wrong between here and the Hub, and the mend, in a sentence."""
    if isinstance(error, ValueError) and not isinstance(error, HfHubHTTPError):
        return f"the Hub refuses what was to be pushed to {name}: {' '.join(str(error).split())}."  # such as a card
    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    if not isinstance(error, HfHubHTTPError):
        return f"{endpoint} could not be reached ({_first_line(error)}): check the connection."
    status = error.response.status_code
    reasons: dict[int, Any] = {
        401: f"{endpoint} refused the token: log in anew with `hf auth login`, or give a valid --hub-token.",
        403: f"the token may not write to {name}: give one with write access, or choose another --hub-model-id.",
        404: f"{endpoint} has no repository {name} that this token may see.",
    }
    reason = error.server_message or _first_line(error)
    return reasons.get(status, f"{endpoint} answered with error {status} ({reason}) for {name}: try again later.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    raise SystemExit(main())
