"""A whole training run: options → data → model → loop → score → report → samples.

from boustro.training.run import main
main(["--config", "small", "--output-dir", "runs/mine"])
"""

import os
import shlex
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import is_tensorboard_available, is_trackio_available, set_seed
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerBase, pipeline
from transformers.utils import logging

from boustro import BoustroConfig, BoustroForCausalLM
from boustro.data_scripts.batches import DocumentBatches, StreamBatches
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.prepare import PreparedData, prepare
from boustro.evaluation.checkpoint import load_config, load_model, load_tokenizer, vocabularies_differ
from boustro.evaluation.scoring import PARALLEL_ROWS, collapse_warning, evaluate_split
from boustro.training import checkpoint, report
from boustro.training.arguments import (
    ARGUMENTS_FILE,
    CHANGEABLE_OF_CHECKPOINT,
    Arguments,
    ModelArguments,
    parse_arguments,
)
from boustro.training.checkpoint import RunState
from boustro.training.errors import TrainingError
from boustro.training.loop import TrainingLoop
from boustro.training.precision import resolve_precision
from boustro.training.prior import fit_prior
from boustro.training.push import Repository, check_metadata, check_target, hub_name, push_command
from boustro.training.schedules import FIRST_PRESSURE

logger = logging.get_logger(__name__)

USER_ERROR, INTERRUPTED = 2, 130
TRAINING_HEALTH_SEGMENTS = 128
NUMBER_OF_SAMPLES = 3
WARN_UNKNOWN, REFUSE_UNKNOWN = 0.05, 0.5  # shares of characters that a checkpoint's vocabulary does not have
SAMPLE_CHARACTERS = 300


def main(argv: list[str] | None = None) -> int:
    """Trains a model as the options say. Returns the exit code: 0, 2 after an error of the user's (printed as one
    sentence), 130 if a signal stopped the run (which can be resumed)."""
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        with system_errors_in_words(Path(arguments.train.output_dir)):
            return run(arguments)
    except (DataError, TrainingError) as error:
        print(f"boustro: error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("boustro: stopped.", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def system_errors_in_words(output_dir: Path) -> Iterator[None]:
    """Raises `TrainingError` where files cannot be read or written: no space, no permission, no folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"a file could not be read or written ({' '.join(str(error).split())}); "
            f"{checkpoint.name_last(output_dir)}: mend that, then start again or go on with --resume."
        ) from error


def run(arguments: Arguments) -> int:
    """As `main`, with parsed options; lets errors through."""
    args, output_dir = arguments.train, Path(arguments.train.output_dir)
    logging.disable_progress_bar()
    if args.push_to_hub:
        check_target(arguments.hub, output_dir)
    accelerator = build_accelerator(arguments)
    resume_from = find_start(arguments, accelerator)
    set_seed(args.seed, device_specific=True)
    data, model = load_data_and_model(arguments, resume_from, accelerator)
    batches = build_batches(arguments, data, model.config)
    state = load_state(resume_from, arguments, data)
    repository = open_repository(arguments, model.config) if args.push_to_hub and accelerator.is_main_process else None
    loop = TrainingLoop(
        model=model,
        tokenizer=data.tokenizer,
        batches=batches,
        evaluate=partial(score_while_training, arguments=arguments, corpus=data.validation),
        args=args,
        accelerator=accelerator,
        state=state,
        resume_from=resume_from,
        on_best=repository.push_unfinished if repository and args.hub_strategy == "every_save" else None,
    )
    # only now, when nothing about data and options can go wrong any more, is the folder touched
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            claim_output_dir(output_dir, arguments)
    if args.report_to:
        config = {name: _plain(value) for name, value in arguments.as_dict().items()}
        accelerator.init_trackers("boustro", config=config)
    if accelerator.is_main_process:
        print(describe(model, data, accelerator))
    finished = loop.train()
    accelerator.end_training()
    if accelerator.is_main_process:
        if finished:
            finish(arguments, data, loop, accelerator)
            share(arguments, repository)
        else:
            print(f"boustro: stopped after step {loop.state.step}; everything is saved. Go on with:")
            print(f"  {resume_command(output_dir)}")
    return 0 if finished else INTERRUPTED


def find_start(arguments: Arguments, accelerator: Accelerator) -> Path | None:
    """The checkpoint that `--resume` goes on from, if there is one. Raises `TrainingError` if the folder is in use."""
    args, output_dir = arguments.train, Path(arguments.train.output_dir)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            check_output_dir(output_dir, args.overwrite_output_dir, args.resume, arguments.model.checkpoint)
    last = output_dir / "last"
    if args.resume and last.is_dir():
        return last
    if args.resume and accelerator.is_main_process:
        print(f"boustro: {output_dir} has no checkpoint yet: starting from the beginning.")
    return None


def load_data_and_model(
    arguments: Arguments, resume_from: Path | None, accelerator: Accelerator
) -> tuple[PreparedData, BoustroForCausalLM]:
    """The prepared text, and a new model for it or that of the checkpoint to go on from."""
    source = str(resume_from) if resume_from else arguments.model.checkpoint
    name = f"{'--resume' if resume_from else '--checkpoint'} {source}"
    tokenizer = load_tokenizer(source, name) if source else None
    with accelerator.main_process_first():
        data = prepare(arguments.data, tokenizer, arguments.train.seed)
    model = continue_model(source, name, arguments, data.tokenizer) if source else build_model(arguments.model, data)
    check_vocabulary(data.report["unknown_share"], arguments.model.checkpoint)
    return data, model


def open_repository(arguments: Arguments, config: BoustroConfig) -> Repository:
    """The repository on the Hub to push to; when resuming it may be there already. The Hub is shown the head of the
    card before, with zeros for what training will measure."""
    output_dir = Path(arguments.train.output_dir)
    figures = {"validation": {"bits_per_character": 0.0, "bits_per_byte": 0.0}, "model": config.to_dict()}
    check_metadata(report.card_metadata(output_dir, arguments, figures), hub_name(arguments.hub, output_dir))
    hub = replace(arguments.hub, hub_exist_ok=arguments.hub.hub_exist_ok or arguments.train.resume)
    return Repository.open(hub, output_dir)


def share(arguments: Arguments, repository: Repository | None) -> None:
    """Pushes the finished run, or prints how that is done."""
    output_dir = Path(arguments.train.output_dir)
    if repository is not None:
        print(f"pushed: {repository.push(output_dir, 'End of training')}")
    else:
        print(f"push it to the Hub with\n  {push_command(output_dir, arguments.hub)}")


def build_accelerator(arguments: Arguments) -> Accelerator:
    """Device, precision, processes and trackers. Raises `TrainingError` for what is not there."""
    args = arguments.train
    installed = {"tensorboard": is_tensorboard_available(), "trackio": is_trackio_available()}
    for name in args.report_to:
        if not installed[name]:
            raise TrainingError(f"--report-to {name}: it is not installed; run: pip install 'boustro[{name}]'")
    processes, started = PartialState(cpu=args.cpu), int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and processes.num_processes == 1:
        raise TrainingError(
            f"{started} processes were started, but without a GPU each of them would train a model of its own into "
            "--output-dir: add --cpu, so that they train one together, or start a single process."
        )
    precision = resolve_precision(args.mixed_precision, processes.device)
    trackers = args.report_to or None
    AcceleratorState._reset_state()  # an earlier run in this process may have used another number format
    return Accelerator(cpu=args.cpu, mixed_precision=precision, log_with=trackers, project_dir=args.output_dir)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def check_output_dir(output_dir: Path, overwrite: bool, resume: bool, start_from: str | None) -> None:
    """Raises `TrainingError` if the folder is in use or cannot be written. Changes nothing but what a killed save left
    behind."""
    nearest = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise TrainingError(f"--output-dir {output_dir}: {nearest} is a file, expected a folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TrainingError(f"--output-dir {output_dir}: {nearest} may not be written to: choose another folder.")
    for name in ("last", "best", checkpoint.TO_PUBLISH):
        checkpoint.recover_folder(output_dir / name)
    present = {path.name for path in output_dir.iterdir()} if output_dir.is_dir() else set()
    if resume or not present - {ARGUMENTS_FILE}:
        return
    if ARGUMENTS_FILE not in present:
        raise TrainingError(
            f"--output-dir {output_dir} is not empty and holds no run of boustro: choose another folder."
        )
    if not overwrite:
        raise TrainingError(
            f"--output-dir {output_dir} holds another run: go on with it by --resume, replace it by "
            "--overwrite-output-dir, or choose another folder."
        )
    if start_from is not None and Path(start_from).resolve().is_relative_to(output_dir.resolve()):
        raise TrainingError(
            f"--overwrite-output-dir would delete --checkpoint {start_from}, which lies in --output-dir {output_dir}: "
            "choose another --output-dir."
        )


def claim_output_dir(output_dir: Path, arguments: Arguments) -> None:
    """Makes the folder, or empties it of the run that is to be overwritten, and writes the options of this run."""
    folder = output_dir.resolve()  # of a link, what it points to
    if arguments.train.overwrite_output_dir and not arguments.train.resume and folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(folder / ARGUMENTS_FILE, arguments.kept())


def build_model(options: ModelArguments, data: PreparedData) -> BoustroForCausalLM:
    """A new model for the prepared text, its softmax starting at the frequencies of the characters."""
    tokenizer = data.tokenizer
    sizes = {name: value for name, value in vars(options).items() if name != "checkpoint" and value is not None}
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    try:
        config = BoustroConfig(vocab_size=len(tokenizer), **special, **sizes)
    except StrictDataclassError as error:
        raise TrainingError(_first_line(error.__cause__ or error)) from error
    model = BoustroForCausalLM(config)
    model.set_output_bias(target_frequencies(data.train, len(tokenizer), config.eos_token_id))
    model.generation_config = GenerationConfig(**special, do_sample=True, temperature=0.8, max_new_tokens=256)
    return model


def target_frequencies(corpus: EncodedCorpus, vocab_size: int, eos_token_id: int) -> torch.Tensor:
    """(V,) how often each id occurs, an end mark for every document."""
    counts = torch.bincount(torch.from_numpy(corpus.ids.astype("int64")), minlength=vocab_size)
    counts[eos_token_id] += len(corpus.offsets) - 1
    return counts


def continue_model(
    source: str, name: str, arguments: Arguments, tokenizer: PreTrainedTokenizerBase
) -> BoustroForCausalLM:
    """The model of a checkpoint, to be trained on. Raises `DataError` or `TrainingError` if it does not fit tokenizer
    or options."""
    config = load_config(source, name)
    if config.vocab_size != len(tokenizer):
        raise DataError(vocabularies_differ(name, config, tokenizer))
    change_options(config, source, arguments)
    return load_model(source, name, config)


def change_options(config: BoustroConfig, source: str, arguments: Arguments) -> None:
    """Gives the config of a checkpoint the options of the command line. Raises `TrainingError` for one that would make
    it another model, and for values out of range."""
    for field in fields(ModelArguments):
        wanted = getattr(arguments.model, field.name)
        if field.name == "checkpoint" or field.name not in arguments.given or wanted == getattr(config, field.name):
            continue
        if field.name not in CHANGEABLE_OF_CHECKPOINT:
            raise TrainingError(
                f"--{field.name.replace('_', '-')} is {wanted}, but the model in {source} has "
                f"{getattr(config, field.name)}; leave it out, or train a new model without --checkpoint."
            )
        setattr(config, field.name, wanted)
    try:
        config.validate()
    except StrictDataclassError as error:
        raise TrainingError(_first_line(error.__cause__ or error)) from error


def check_vocabulary(unknown_share: float, start_from: str | None) -> None:
    """Raises `TrainingError` if most of the text is unknown to the vocabulary of `--checkpoint`, warns if some is."""
    if start_from is None or unknown_share < WARN_UNKNOWN:
        return
    found = f"{unknown_share:.0%} of the text's characters are unknown to the vocabulary of --checkpoint {start_from}"
    if unknown_share > REFUSE_UNKNOWN:
        raise TrainingError(f"{found} and would be spelt in bytes: train a new model, without --checkpoint.")
    logger.warning("%s and are spelt in bytes, which costs likelihood.", found)


def build_batches(arguments: Arguments, data: PreparedData, config: BoustroConfig) -> StreamBatches | DocumentBatches:
    """The training batches for the input mode. Raises `TrainingError` if the model is not made for it."""
    args = arguments.train
    check_prior(arguments, config)
    ids = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    if arguments.data.input_mode == "documents":
        return DocumentBatches(data.train, args.batch_size, args.max_length, config.segment_length, args.seed, **ids)
    if args.window_length % config.segment_length and config.latent_size > 0:
        raise TrainingError(
            f"--window-length {args.window_length} is not a multiple of --segment-length {config.segment_length}: "
            "a window consists of whole segments."
        )
    return StreamBatches(data.train, args.batch_size, args.window_length, config.segment_length, args.seed, **ids)


def check_prior(arguments: Arguments, config: BoustroConfig) -> None:
    """Raises `TrainingError` if the prior, of a plain model too, is not that of the input mode: evaluations tell the
    mode by it."""
    mode, recipe, prior, other = arguments.data.input_mode, "small", "conditional", "documents"
    if mode == "documents":
        recipe, prior, other = "documents", "standard", "stream"
    if config.latent_prior == prior:
        return
    mends = []
    if arguments.model.checkpoint is None:
        mends.append(f"with --config {recipe} or --latent-prior {prior}")
    if arguments.data.prepared is None:
        mends.append(f"with --input-mode {other}")
    if arguments.model.checkpoint is not None:
        mends.append("a new model without --checkpoint")
    if arguments.data.prepared is not None:
        mends.append(f"on text that was prepared with --input-mode {other}")
    raise TrainingError(
        f"the input mode is {mode}, but latent_prior is {config.latent_prior!r}, expected {prior!r}: train "
        f"{', or '.join(mends)}."
    )


def load_state(resume_from: Path | None, arguments: Arguments, data: PreparedData) -> RunState:
    """The counters to start from. Raises `TrainingError` if the text is not that of the run that goes on."""
    found = {"training": fingerprint(data.train), "validation": fingerprint(data.validation)}
    if resume_from is None:
        in_use = arguments.model.checkpoint is not None and arguments.train.latent_warmup_fraction == 0
        pressure = 1.0 if in_use else FIRST_PRESSURE
        return RunState(data=found["training"], validation=found["validation"], pressure=pressure)
    state = checkpoint.load_run_state(resume_from)
    for name, then in (("training", state.data), ("validation", state.validation)):
        if not found[name].startswith(then):  # runs of before kept the beginning of it, or nothing
            raise TrainingError(
                f"--resume: the {name} text is not the one that the run in {arguments.train.output_dir} was started "
                f"with ({found[name]}, then {then}); restore it, or start a new run with --checkpoint {resume_from}."
            )
    state.data, state.validation = found.values()
    return state


def fingerprint(corpus: EncodedCorpus) -> str:
    """What tells one text, cut and segmented in one way, from another."""
    ids, *rest = (zlib.crc32(array.tobytes()) for array in (corpus.ids, corpus.word_starts, corpus.offsets))
    return f"{len(corpus.ids)} ids, crc32 {ids:08x}" + "".join(f" {part:08x}" for part in rest)


def score_while_training(model: torch.nn.Module, arguments: Arguments, corpus: EncodedCorpus) -> dict[str, Any]:
    """A quick score of (the beginning of) a split, in rows that start cold; always the same noise."""
    args = arguments.train
    return evaluate_split(
        model,
        corpus,
        input_mode=arguments.data.input_mode,
        max_length=args.max_length,
        rows=PARALLEL_ROWS,
        max_characters=args.eval_characters,
        health_segments=TRAINING_HEALTH_SEGMENTS,
        seed=args.seed,
    )


def describe(model: BoustroForCausalLM, data: PreparedData, accelerator: Accelerator) -> str:
    """One line about what is going to be trained, on what."""
    return (
        f"boustro: {model.num_parameters():,} parameters, {len(data.tokenizer)} ids, {data.train.characters:,} "
        f"characters to train on, {data.validation.characters:,} to validate; {accelerator.device.type}, "
        f"{precision_name(accelerator)}"
    )


def precision_name(accelerator: Accelerator) -> str:
    """float32, bf16 or fp16."""
    return "float32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision


def resume_command(output_dir: Path) -> str:
    """The command line that goes on with a run, as this one was started."""
    program = Path(sys.argv[0]).name
    start = {"train.py": "python train.py", "__main__.py": "python -m boustro.training"}.get(program, "boustro-train")
    return f"{start} --output-dir {shlex.quote(str(output_dir))} --resume"


def finish(arguments: Arguments, data: PreparedData, loop: TrainingLoop, accelerator: Accelerator) -> None:
    """Publishes the best checkpoint with a fitted prior, scores it in float32 on the whole split, reports and prints
    samples."""
    output_dir, state, args = Path(arguments.train.output_dir), loop.state, arguments.train
    source = output_dir / ("best" if state.best is not None else "last")
    model = AutoModelForCausalLM.from_pretrained(source).to(accelerator.device)
    checkpoint.publish(model, data.tokenizer, output_dir)  # to be there if what follows is interrupted
    fitted = finish_prior(model, loop, data, args.seed)
    if fitted is not None:
        checkpoint.publish(model, data.tokenizer, output_dir)
    print("boustro: scoring the whole validation split …")
    validation = evaluate_split(
        model,
        data.validation,
        input_mode=arguments.data.input_mode,
        max_length=args.max_length,
        seed=args.seed,
    )
    train = score_while_training(model, arguments, data.train)
    metrics = {
        "validation": validation,
        "train_nats_per_character": train["nats_per_character"],
        "parameters": model.num_parameters(),
        "model": {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"},
        "train_characters": data.train.characters,
        "steps": state.step,
        "epochs": state.step / loop.batches.steps,
        "seconds": state.seconds,
        "prior_fit": fitted,
        "precision": precision_name(accelerator),
        "processes": accelerator.num_processes,
        "hardware": report.hardware(accelerator.device),
        "versions": report.versions(),
        "command": arguments.command,
        "arguments": arguments.public(),
        "data": {**data.report, "source": report.data_name(arguments)},
        "history": state.history,
    }
    report.write_metrics(output_dir, metrics)
    report.plot_curves(output_dir, state.history)
    samples = generate_samples(output_dir, data.tokenizer, args.prompts, args.seed, accelerator.device)
    report.write_card(output_dir, arguments, metrics, samples)
    print(summary(output_dir, validation, samples))


def finish_prior(
    model: BoustroForCausalLM, loop: TrainingLoop, data: PreparedData, seed: int
) -> dict[str, Any] | None:
    """`fit_prior` for a model that the loop has trained, with a line about it; None where there is nothing to fit."""
    config = model.config
    if config.latent_size == 0 or config.latent_prior != "conditional":
        return None
    print("boustro: fitting the prior …")
    characters = loop.state.step / loop.batches.steps * len(loop.batches.streams.sequence)
    fitted = fit_prior(model, loop.batches, data.validation, round(characters / config.segment_length), seed)
    if fitted is not None:
        change = f"KL of validation text from {fitted['kl_before']:.2f} to {fitted['kl_after']:.2f} nats per segment"
        print(f"boustro: fitted the prior to {fitted['segments']:,} segments; {change}")
    return fitted


def generate_samples(
    output_dir: Path, tokenizer: PreTrainedTokenizerBase, prompts: list[str], seed: int, device: torch.device
) -> list[str]:
    """Texts that the published model writes, through the pipeline that its users will call."""
    set_seed(seed)
    generate = pipeline("text-generation", model=str(output_dir), device=device)
    prompts = prompts or [""] * NUMBER_OF_SAMPLES
    return [generate(prompt, max_new_tokens=SAMPLE_CHARACTERS)[0]["generated_text"] for prompt in prompts]


def summary(output_dir: Path, validation: dict[str, Any], samples: list[str]) -> str:
    """What is printed at the end."""
    lines = [f"--- sample {number} ---\n{sample}" for number, sample in enumerate(samples, 1)]
    nats, bits = validation["nats_per_character"], validation["bits_per_character"]
    line = f"\nvalidation: {nats:.4f} nats = {bits:.4f} bits per character"
    if validation["kl_per_segment"] is not None:
        line += f", KL included ({validation['kl_per_segment']:.2f} nats per segment)"
    lines.append(line)
    warning = collapse_warning(validation)
    if warning:
        lines.append(f"warning: {warning}")
    lines.append(
        f"saved in {output_dir}{os.sep} (weights, metrics.json, training_curves.png, README.md); load it with"
    )
    lines.append(f'  pipeline("text-generation", model={str(output_dir)!r}, trust_remote_code=True)')
    return "\n".join(lines)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
