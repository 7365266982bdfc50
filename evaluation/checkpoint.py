"""A checkpoint, loaded: tokenizer, config, model. What is wrong with one is said in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from boustro import BoustroConfig, BoustroForCausalLM
from boustro.data_scripts.errors import DAMAGE, DataError
from boustro.data_scripts.files import check_checkpoint

TOKENIZER = "tokenizer.json"


def load_checkpoint(
    source: str, device: str = "cpu", dtype: torch.dtype | None = None
) -> tuple[BoustroForCausalLM, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder or a Hub id. Raises `DataError` for what is no boustro model as it was saved."""
    config, tokenizer = load_config(source, source), load_tokenizer(source, source)
    if len(tokenizer) > config.vocab_size:  # a larger vocabulary than the tokenizer's may be a padded one
        raise DataError(vocabularies_differ(source, config, tokenizer))
    return load_model(source, source, config, dtype).to(device), tokenizer


def load_tokenizer(source: str, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, which errors call `name`. Raises `DataError` if there is none."""
    check_checkpoint(source)
    if Path(source).is_dir() and not (Path(source) / TOKENIZER).is_file():
        raise DataError(f"{name}: the folder holds no tokenizer ({TOKENIZER} is missing).")
    with _saying(f"{name}: no tokenizer could be loaded from there"):
        # a tokenizer is plain data: it needs no code from the folder
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def load_config(source: str, name: str) -> BoustroConfig:
    """The config of a checkpoint. Raises `DataError` for one that is damaged or of another kind of model."""
    check_checkpoint(source)
    with _saying(f"{name}: no model could be loaded from there"):
        config = AutoConfig.from_pretrained(source)
    if config.model_type != BoustroConfig.model_type:
        raise DataError(f"{name} holds a model of type {config.model_type!r}, expected a boustro model.")
    return config


def load_model(source: str, name: str, config: BoustroConfig, dtype: torch.dtype | None = None) -> BoustroForCausalLM:
    """The weights of a checkpoint in a model of this config, none of them missing or left over. Raises `DataError` if
    they are damaged or do not fit."""
    with _quietly(), _saying(f"{name}: the weights could not be loaded"):
        model, report = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
        )
    for kind in ("missing", "unexpected", "mismatched"):
        if found := sorted(map(str, report[f"{kind}_keys"])):
            raise DataError(
                f"{name}: config.json does not fit the weights ({kind}: {found[0]}): use the folder as it was saved, "
                "or set what its version did not know (plan_skip: false)."
            )
    return model


def vocabularies_differ(name: str, config: BoustroConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """What to say of a tokenizer that is not the model's."""
    return (
        f"{name}: the model has vocab_size={config.vocab_size}, but its tokenizer has {len(tokenizer)} ids; they "
        "belong to different vocabularies: use the folder as it was saved."
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' progress bar, and its table of weights that do not fit."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Raises `DataError` with a sentence where loading fails, be it by a file or by the network."""
    try:
        yield
    except StrictDataclassError as error:
        raise DataError(f"{what} ({_reason(error.__cause__ or error)}).") from error
    except (OSError, *DAMAGE) as error:
        raise DataError(f"{what} ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
