"""What a finished run leaves beside its weights: metrics.json, training_curves.png and a filled model card."""

import math
import os
import platform
import string
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import EvalResult, ModelCardData

import boustro
from boustro.data_scripts.report import card_section
from boustro.evaluation.pictures import new_figure, save_figure
from boustro.evaluation.report import NOT_MEASURED, fenced, marked
from boustro.evaluation.safety_report import redaction_counts, redactions, safety_section
from boustro.evaluation.scoring import collapse_warning
from boustro.training.arguments import Arguments, public_value
from boustro.training.checkpoint import write_json, write_text
from boustro.training.push import hub_name

CARD_TEMPLATE = Path(__file__).parent.parent / "model_card.md"
NO_EVALUATION = """\
Matched baseline, importance-weighted bound, reconstructions, alignment and map of the latents: not measured. They come
with `python -m boustro.evaluation`."""


def hardware(device: torch.device) -> str:
    """The processor or GPU that a run used, in words."""
    threads = torch.get_num_threads()
    cores = f"{threads} {'thread' if threads == 1 else 'threads'} of {os.cpu_count()} cores"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {platform.system()} {platform.machine()}"
    return (
        f"{_processor()}, {cores}, {platform.system()}" if device.type == "cpu" else f"{device.type}, {_processor()}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "boustro": boustro.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def write_metrics(output_dir: Path, metrics: dict[str, Any]) -> None:
    """metrics.json: every figure of the run; numbers that are not finite become null."""
    write_json(output_dir / "metrics.json", _finite(metrics))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plot_curves(output_dir: Path, history: list[dict[str, Any]]) -> None:
    """training_curves.png: the bound on training and validation text, and the KL beside its weight."""
    figure = new_figure(11, 4)
    bound, latent = figure.subplots(1, 2)
    steps = [entry["step"] for entry in history]
    for kind, style in (("train", "o-"), ("validation", "s-")):
        bound.plot(steps, [entry[kind]["nats_per_character"] for entry in history], style, markersize=3, label=kind)
    bound.set(xlabel="step", ylabel="nats per character", title="bound: reconstruction + KL")
    bound.legend()
    kl = [entry["validation"]["kl_per_segment"] for entry in history]
    swap = [entry["validation"]["swap_loss_per_segment"] for entry in history]
    latent.plot(steps, _with_gaps(kl), "s-", markersize=3, label="KL (validation)")
    latent.plot(steps, _with_gaps(swap), "^-", markersize=3, label="lost by swapping latents")
    latent.set(xlabel="step", ylabel="nats per segment", title="latent")
    latent.legend(loc="upper right")
    weight = latent.twinx()
    weight.plot(steps, [entry["kl_weight"] for entry in history], "--", color="grey", linewidth=1)
    weight.set(ylabel="weight of the KL", ylim=(0, 1.05))
    save_figure(figure, output_dir / "training_curves.png")


def _with_gaps(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


LATENT_SUMMARY = """\
A character-level language model with a latent for every stretch of text. It is a boustro model: an LSTM reads the
past, a latent is drawn, the next stretch is planned backward from it, that plan is aligned with what was read, and a
second LSTM writes forward."""
LATENT_USAGE = """
What the latents are for; `pipeline` knows these tasks, and `feature-extraction` for vectors, from `config.json`:

```python
from transformers import pipeline

model_id = "{model_path}"
rewrite = pipeline("reconstruct", model=model_id, trust_remote_code=True)
print(rewrite("{text}", max_new_tokens=50)["text"])
between = pipeline("interpolate", model=model_id, trust_remote_code=True)
print(between(({pair}), steps=5, max_new_tokens=50)["texts"])
```
"""
# what the snippets give the model, by the script of its training text
LATIN_SNIPPETS = {
    "prompts": '"The ", "A longer prompt "',
    "text": "A text to be written anew",
    "pair": '"One text", "The other"',
}
HAN_SNIPPETS = {"prompts": '"春", "明月照"', "text": "明月照山，清风入怀。", "pair": '"春去秋来", "花落水流"'}
PLAIN_SUMMARY = """\
A character-level LSTM language model. It is a boustro model without a latent: embedding, LSTM layers, softmax."""


def write_card(output_dir: Path, arguments: Arguments, metrics: dict[str, Any], samples: list[str]) -> None:
    """README.md of the model folder, from the template and measured values alone."""
    template = string.Template(CARD_TEMPLATE.read_text(encoding="utf-8"))
    fields = card_fields(output_dir, arguments, metrics, samples)
    write_text(output_dir / "README.md", template.substitute(fields))


def card_fields(output_dir: Path, arguments: Arguments, metrics: dict[str, Any], samples: list[str]) -> dict[str, str]:
    """The values of the template's placeholders."""
    validation, model = metrics["validation"], metrics["model"]
    latent = model["latent_size"] > 0
    path, snippets = model_path(output_dir, arguments), _snippets(metrics["data"])
    return {
        "metadata": card_metadata(output_dir, arguments, metrics).to_yaml(),
        "name": _model_name(output_dir, arguments),
        "model_path": path,
        "prompts": snippets["prompts"],
        "latent_usage": LATENT_USAGE.format(model_path=path, **snippets) if latent else "",
        "boustro_version": metrics["versions"]["boustro"],
        "code_files": _code_files(output_dir),
        "parameters": f"{metrics['parameters']:,}",
        "architecture": _architecture(model),
        "file_size": _file_size(output_dir / "model.safetensors"),
        "peak_memory": _peak_memory(),
        "input_mode": arguments.data.input_mode,
        "protocol": _protocol(arguments, validation) + (", one posterior sample a segment" if latent else ""),
        "data": data_name(arguments),
        "preparation": _preparation(metrics),
        "recipe": _recipe(arguments, model),
        "validation_characters": f"{validation['characters']:,}",
        "vocab_size": str(model["vocab_size"]),
        "nats_per_character": _number(validation["nats_per_character"]),
        "bits_per_character": _number(validation["bits_per_character"]),
        "bits_per_byte": _number(validation["bits_per_byte"]),
        "reconstruction_nats": _number(validation["reconstruction_nats"]),
        "kl_per_segment": _number(validation["kl_per_segment"], 2) if latent else "no latent",
        "swap_loss_per_segment": _number(validation["swap_loss_per_segment"], 2) if latent else "no latent",
        "active_units": _active(validation) if latent else "no latent",
        "verdict": _verdict(validation, latent),
        "summary": LATENT_SUMMARY if latent else PLAIN_SUMMARY,
        "bound": "The bound is −log p(x | z) + KL, an upper bound on −log p(x)." if latent else "This is −log p(x).",
        "train_nats_per_character": _number(metrics["train_nats_per_character"]),
        "train_gap": _number(_train_gap(metrics)),
        "steps": f"{metrics['steps']:,}",
        "epochs": f"{metrics['epochs']:.2f}",
        "minutes": f"{metrics['seconds'] / 60:.1f}",
        "precision": metrics["precision"],
        "hardware": metrics["hardware"],
        "versions": ", ".join(f"{name} {version}" for name, version in metrics["versions"].items()),
        "command": metrics["command"],
        "evaluation": marked("evaluation", NO_EVALUATION),
        "samples": "\n\n".join(fenced(sample) for sample in samples) if samples else NOT_MEASURED,
        "safety": marked("safety", safety_section({"redacted": redaction_counts(metrics)})),
    }


def _file_size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB" if path.is_file() else NOT_MEASURED


def _peak_memory() -> str:
    """Of this process, and of its GPU where it used one."""
    try:
        import resource  # Windows has none
    except ImportError:
        return NOT_MEASURED
    unit = 1 if platform.system() == "Darwin" else 2**10  # ru_maxrss is in bytes there, elsewhere in KiB
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:.0f} MiB"
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        peak += f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on the GPU"
    return peak


def model_path(output_dir: Path, arguments: Arguments) -> str:
    """What the card's snippets load: the repository, or the folder as it was named, without the folders above it if
    those say where on this machine it lies."""
    if arguments.train.push_to_hub:
        return hub_name(arguments.hub, output_dir)
    outside = output_dir.is_absolute() or ".." in output_dir.parts
    return _model_name(output_dir, arguments) if outside else output_dir.as_posix()


def _model_name(output_dir: Path, arguments: Arguments) -> str:
    name = hub_name(arguments.hub, output_dir) if arguments.train.push_to_hub else output_dir.resolve().name
    return name.split("/")[-1]


def _snippets(data: dict[str, Any]) -> dict[str, str]:
    shares = data["scripts"]
    return HAN_SNIPPETS if shares.get("Han", 0) > shares.get("Latin", 0) else LATIN_SNIPPETS


def _code_files(output_dir: Path) -> str:
    files = sorted(output_dir.glob("*_boustro.py"))
    lines = [len(file.read_text(encoding="utf-8").splitlines()) for file in files]
    names = (f"`{file.name}` ({count})" for file, count in zip(files, lines, strict=True))
    return f"{len(files)} files of {sum(lines):,} lines together, {', '.join(names)}"


def _preparation(metrics: dict[str, Any]) -> str:
    """How the text was prepared, and what was redacted and planted."""
    data = metrics["data"]
    planted = ", ".join(f"{canary['repeats']}×" for canary in data.get("canaries", []))
    lines = [
        f"- Personal data redacted: {redactions(redaction_counts(metrics))}.",
        f"- Canaries planted to measure memorisation: {planted or 'none'}.",
    ]
    return "\n".join([card_section(data), "", *lines])


def _recipe(arguments: Arguments, model: dict[str, Any]) -> str:
    """The settings that a reader would ask for first; the command and `metrics.json` have all of them."""
    args = arguments.train
    length = args.window_length if arguments.data.input_mode == "stream" else args.max_length
    rates = f"AdamW at {args.learning_rate:g}"
    if args.optimizer == "muon":
        rates = f"Muon at {args.muon_learning_rate:g} for the LSTM matrices, {rates} for the rest"
    latent = f", KL floor {model['kl_floor']:g} nats per segment" if model["latent_size"] > 0 else ""
    return (
        f"Recipe `{Path(args.config).name}`: batches of {args.batch_size} × {length} characters, {rates}, dropout "
        f"{model['dropout']:g}{latent}, seed {args.seed}"
    )


def _train_gap(metrics: dict[str, Any]) -> float | None:
    """Nats per character by which the best evaluation during training lies above the score on training text."""
    evaluations = [entry["validation"]["nats_per_character"] for entry in metrics["history"]]
    return min(evaluations) - metrics["train_nats_per_character"] if evaluations else None


def card_metadata(output_dir: Path, arguments: Arguments, metrics: dict[str, Any]) -> ModelCardData:
    """The YAML head of the card, with the measured result as the Hub's model index."""
    validation, data, latent = metrics["validation"], data_name(arguments), metrics["model"]["latent_size"] > 0
    dataset, base = arguments.data.dataset_name, arguments.model.checkpoint
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=public_value("dataset_name", dataset) if dataset else "text",
            dataset_name=f"validation split of {data}",
            metric_type=name,
            metric_name=f"{name.replace('_', ' ')}{' (−ELBO, KL included)' if latent else ''}",
            metric_value=round(validation[name], 4),
        )
        for name in ("bits_per_character", "bits_per_byte")
        if validation[name] is not None
    ]
    return ModelCardData(
        model_name=_model_name(output_dir, arguments),
        base_model=base if base and not Path(base).exists() else None,
        datasets=[dataset] if dataset and not Path(dataset).exists() else None,
        language=arguments.train.language or (["en"] if _is_default_corpus(arguments) else None),
        license=arguments.train.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["boustro", "character-level", "lstm", *(["variational-autoencoder"] if latent else [])],
        eval_results=results,
    )


def _architecture(model: dict[str, Any]) -> str:
    size = f"context LSTM {model['num_context_layers']}×{model['hidden_size']}, generator LSTM "
    size += f"{model['num_generator_layers']}×{model['hidden_size']}, embedding {model['embedding_size']}"
    if model["latent_size"] == 0:
        return f"{size}, no latent"
    prior = "N(0, I) as prior"
    if model["latent_prior"] == "conditional":
        prior = f"a predicted mixture of {model['prior_components']} Gaussians as prior"
    return (
        f"{size}; a latent of {model['latent_size']} dimensions ({prior}) for every "
        f"{model['segment_length']} characters{', plan skip' if model.get('plan_skip') else ''}"
    )


def _protocol(arguments: Arguments, validation: dict[str, Any]) -> str:
    if arguments.data.input_mode == "documents":
        pieces = f"longer ones than {arguments.train.max_length} characters in pieces"
        return f"every document by itself, {pieces}, end marks counted"
    rows = "in one stream" if validation["rows"] == 1 else f"in {validation['rows']} streams"
    return f"the whole split {rows} with the state carried"


def _verdict(validation: dict[str, Any], latent: bool) -> str:
    if not latent:
        return "This is a plain language model, without a latent."
    if validation["swap_loss_per_segment"] is None:
        return "Whether the latent is in use was not measured: the validation text is a single segment."
    warning = collapse_warning(validation)
    return f"**Warning**: {warning}" if warning else "The latent is in use: the generator loses by a wrong one."


def _active(validation: dict[str, Any]) -> str:
    if validation["active_units"] is None:
        return NOT_MEASURED
    return f"{validation['active_units']} of {validation['latent_units']}"


def _number(value: float | None, digits: int = 4) -> str:
    return NOT_MEASURED if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _is_default_corpus(arguments: Arguments) -> bool:
    return not (arguments.data.dataset_name or arguments.data.train_file or arguments.data.prepared)


def data_name(arguments: Arguments) -> str:
    data = arguments.data
    if data.prepared:
        return f"{Path(data.prepared).resolve().name} (prepared)"
    if data.dataset_name:
        return public_value("dataset_name", data.dataset_name)
    if data.train_file:
        return ", ".join(Path(file).name for file in data.train_file)
    return "the Python reference topics (pydoc_data.topics of the standard library)"
