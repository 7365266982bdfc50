"""The figures of an evaluation as a table on the screen and as a section of the model card."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from boustro.evaluation.reconstruction import BUCKET, Reconstructions

NOT_MEASURED = "not measured"
SHOWN_TEXTS = 3

BOUND = (
    ("nats_per_character", "nats per character"),
    ("bits_per_character", "bits per character"),
    ("bits_per_byte", "bits per UTF-8 byte"),
    ("reconstruction_nats", "reconstruction alone, nats per character (no likelihood)"),
    ("kl_nats", "KL, nats per character"),
    ("kl_per_segment", "KL, nats per segment"),
    ("cold_nats", "the bound in random windows of 256 that start cold, nats per character"),
    ("particle_nats", "tighter bound by a particle filter, nats per character"),
    ("particles", "its particles"),
    ("segments", "segments"),
    ("characters", "characters, end marks included"),
)
OF_LATENTS = ("reconstruction_nats", "kl_nats", "kl_per_segment", "particle_nats", "particles", "segments")
PLAIN = tuple(row for row in BOUND if row[0] not in OF_LATENTS)
USE = (
    ("parameters", "parameters"),
    ("memory_mib", "peak memory of a process that loads it and writes 256 characters, MiB"),
    ("libraries_mib", "of it Python, torch and transformers, MiB"),
)
BASELINE = (
    ("nats_per_character", "nats per character"),
    ("particle_nats", "tighter bound by a particle filter, nats per character"),
    ("bits_per_character", "bits per character"),
    ("cold_nats", "random windows of 256 that start cold, nats per character"),
    ("kl_per_segment", "KL, nats per segment"),
    ("parameters", "parameters"),
)
IMPORTANCE = (
    ("importance_nats_per_document", "nats per document"),
    ("importance_elbo_per_document", "−ELBO of the same draws, nats per document"),
    ("importance_nats_per_character", "nats per character"),
    ("importance_nats", "nats, all together"),
)
LATENT = (
    ("swap_loss_per_segment", "reconstruction lost when segments exchange latents"),
    ("prior_loss_per_segment", "reconstruction lost when latents are drawn from the prior"),
    ("mutual_information", "mutual information of text and latent (at most log N)"),
    ("aggregate_kl", "KL of the aggregate posterior from the prior"),
    ("backward_nats", "−log likelihood of the backward decoder, per character"),
    ("active_units", "active units (variance of the posterior mean above 0.01)"),
    ("latent_units", "units"),
)
RECONSTRUCTION = (
    ("posterior", "its own posterior mean"),
    ("swapped", "another's"),
    ("prior", "a draw from the prior"),
)
SAMPLES = (
    ("distinct_2", "different 2-grams per character"),
    ("distinct_4", "different 4-grams per character"),
    ("distinct_6", "different 6-grams per character"),
    ("self_bleu", "self-BLEU"),
    ("repeated_share", "share of n-grams repeated within a text"),
    ("looping_share", "share of texts that end in a loop"),
    ("mean_copied_characters", "longest passage copied from the training text, mean, characters"),
    ("max_copied_characters", "the same, maximum"),
    ("share_with_50_copied", "share of texts that copy 50 characters and more"),
)

Row = tuple[str, ...]  # a label and the values beside it
Group = tuple[str, Row, list[Row]]  # a title, the heads of the columns, the rows


def groups(figures: dict[str, Any]) -> list[Group]:
    """The figures by subject, without those that this kind of model or text has not."""
    latent = figures["kl_per_segment"] is not None
    bound = "Bound on −log p(x): −ELBO, reconstruction and KL together" if latent else "−log p(x), exact"
    result = [_group(bound, BOUND if latent else PLAIN, figures)]
    if figures["baselines"]:
        result.append(_baselines(figures))
    if figures.get("importance_documents"):
        title = "Importance-weighted bound on −log p(x), {importance_samples} samples, first {importance_documents} "
        result.append(_group((title + "documents").format(**figures), IMPORTANCE, figures))
    if figures["examined_segments"]:
        title = "Latent, first {examined_segments} segments, nats per segment"
        result.append(_group(title.format(**figures), LATENT, figures))
        result.append(_by_place(figures["prior_loss_by_place"]))
    if figures["reconstructed"]:
        result.append(_reconstruction(figures))
    if "sampled" in figures:
        samples, real = figures["sampled"]["samples"], figures["sampled"]["real"]
        rows = [(label, _format(samples[key]), _format(real[key])) for key, label in SAMPLES]
        result.append((f"{samples['texts']} samples beside held-out text", ("samples", "held-out text"), rows))
    result.append(_group("In use, on a CPU", USE, figures))
    return result


def _group(title: str, rows: tuple[Row, ...], figures: dict[str, Any]) -> Group:
    shown = [(label, _format(figures[key])) for key, label in rows if figures.get(key) is not None]
    return title, ("",), shown


def _baselines(figures: dict[str, Any]) -> Group:
    models = [figures, *figures["baselines"]]
    if any(model.get("particle_nats") for model in models):
        # what is exact cannot be tightened
        models = [m if m["latent_size"] else m | {"particle_nats": m["nats_per_character"]} for m in models]
    kinds = ["plain LSTM, exact" if model["latent_size"] == 0 else "latent, a bound" for model in models]
    heads = [f"{model['name']} ({kind})" for model, kind in zip(models[1:], kinds[1:], strict=True)]
    found = [(label, [model.get(key) for model in models]) for key, label in BASELINE]
    rows = [
        (label, *("–" if value is None else _format(value) for value in values))
        for label, values in found
        if any(value is not None for value in values)
    ]
    return "Beside baselines on the same text", ("this model", *heads), rows


def _by_place(losses: list[float]) -> Group:
    starts = [0, *(2**octave for octave in range(len(losses) - 1))]
    labels = [f"place {a}" if b == a + 1 else f"places {a}–{b - 1}" for a, b in pairwise(starts)]
    labels.append(f"place {starts[-1]} and later")
    rows = [(label, _format(loss)) for label, loss in zip(labels, losses, strict=True)]
    return "Where in a segment a latent drawn from the prior loses it, nats per segment", ("",), rows


def _reconstruction(figures: dict[str, Any]) -> Group:
    kind = "first {} documents" if figures["input_mode"] == "documents" else "{} segments, each after one of prompt"
    rows = [("all, edits per character", *(_format(figures[f"{name}_error_rate"]) for name, _ in RECONSTRUCTION))]
    errors = [figures[f"{name}_errors_by_position"] for name, _ in RECONSTRUCTION]
    for index, values in enumerate(zip(*errors, strict=True)):
        label = f"wrong at places {index * BUCKET}–{(index + 1) * BUCKET - 1}, share"
        rows.append((label, *map(_format, values)))
    heads = tuple(f"from {label}" for _, label in RECONSTRUCTION)
    return f"Character error rate of greedy reconstructions, {kind.format(figures['reconstructed'])}", heads, rows


def _format(value: float | int | None) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def printed(figures: dict[str, Any]) -> str:
    """The groups as text for the screen."""
    lines = []
    for title, heads, rows in groups(figures):
        table = [("", *heads), *rows] if any(heads) else rows
        widths = [max(len(row[column]) for row in table) for column in range(len(rows[0]))]
        lines += [title, *("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table), ""]
    return "\n".join(lines)


def card_section(
    figures: dict[str, Any],
    name: str,
    pictures: list[str],
    texts: Reconstructions,
    samples: list[str],
    warning: str | None,
) -> str:
    """The card's section in Markdown, without its marks: tables, pictures, first reconstructions and samples.

    Args:
        name: of the text.  pictures: file names beside the card.  warning: of a collapsed latent.
    """
    parts = [f"## Evaluation on {name}", f"Read as {figures['input_mode']}."]
    for title, heads, rows in groups(figures):
        table = [("", *heads), ("---",) * len(rows[0]), *rows]
        parts += [f"### {title}", "\n".join(f"| {' | '.join(row)} |" for row in table)]
    if warning:
        parts.append(f"**Warning**: {warning}")
    parts += [f"![{Path(picture).stem.replace('_', ' ')}]({picture})" for picture in pictures]
    if texts.original:
        parts.append("### Reconstructions\n\nGreedy, the first ones, not chosen.")
    for original, own, other, drawn in list(zip(*vars(texts).values(), strict=True))[:SHOWN_TEXTS]:
        lines = ("text", original), ("own latent", own), ("another's", other), ("prior", drawn)
        parts.append(fenced("\n".join(f"{label + ':':12}{text}" for label, text in lines)))
    if samples:
        parts.append("### Samples at temperature 1\n\nThe first ones, not chosen.")
    parts += [fenced(sample) for sample in samples[:SHOWN_TEXTS]]
    return "\n\n".join(parts)


def marked(name: str, section: str) -> str:
    """A section of the card between marks by which `write_section` finds it; marks that it quotes are no marks."""
    section = re.sub(r"<!-- (\w+:(?:begin|end)) -->", r"(\1)", section)
    return f"<!-- {name}:begin -->\n\n{section}\n\n<!-- {name}:end -->"


def write_section(card: Path, name: str, section: str) -> Path:
    """Puts the section between its marks in a card, in place of an earlier one, or else at the end; returns `card`."""
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {card.resolve().parent.name}\n"
    found = re.search(f"<!-- {name}:begin -->.*?<!-- {name}:end -->", text, flags=re.S)
    before, after = (text[: found.start()], text[found.end() :]) if found else (f"{text.rstrip()}\n\n", "\n")
    beside = card.with_name(f".{card.name}.new")
    beside.write_text(before + marked(name, section) + after, encoding="utf-8")
    beside.replace(card)
    return card


def fenced(text: str) -> str:
    """Text as a Markdown code block that nothing inside can close."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
