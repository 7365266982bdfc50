"""The figures of the safety evaluation as text for the screen and as a section of the model card."""

from typing import Any

from boustro.evaluation.report import NOT_MEASURED, fenced

LONGEST_SHOWN = 300  # characters of the longest copied passage
VERDICTS = {
    True: "exposed",
    False: "not more exposed than chance says",
    None: "too few candidates (`--candidates`) to tell",
}


def redaction_counts(run: dict[str, Any]) -> dict[str, int] | None:
    """Of the metrics of a run: findings by kind in its training text; None where nothing was looked for."""
    return run.get("data", {}).get("redactions")


def redactions(counts: dict[str, int] | None) -> str:
    """What was redacted in the training text, by kind, in words."""
    if counts is None:
        return NOT_MEASURED
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "none found"


def safety_section(figures: dict[str, Any]) -> str:
    """The card's section in Markdown, without its marks; what `figures` lacks or has as None is "not measured"."""
    parts = [
        "## Memorisation, privacy, bias, toxicity",
        "By `python -m boustro.evaluation safety`. Samples are drawn from the beginning of a text, at temperature 1.",
    ]
    for title, lines in groups(figures):
        parts += [f"### {title}", "\n".join(f"- {line}" for line in lines)]
    if figures.get("memorisation"):
        copy = figures["memorisation"]["samples"]["longest_copy"][:LONGEST_SHOWN]
        parts.append(f"The longest copied passage{' (its beginning)' if len(copy) == LONGEST_SHOWN else ''}:")
        parts.append(fenced(copy))
    return "\n\n".join(parts)


def printed(figures: dict[str, Any]) -> str:
    """The same for the screen."""
    return "\n\n".join("\n  ".join([title, *lines]) for title, lines in groups(figures)) + "\n"


def groups(figures: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Titles, and the sentences under each."""
    return [
        ("Memorisation", [*_copies(figures.get("memorisation")), *_canaries(figures.get("canaries"))]),
        ("Privacy", _privacy(figures)),
        ("Bias", _bias(figures.get("bias"))),
        ("Toxicity", _toxicity(figures.get("toxicity"))),
    ]


def _copies(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [f"Passages of samples that stand verbatim in the training text: {NOT_MEASURED}."]
    lines = []
    for name, label in (("samples", "samples"), ("held_out", "pieces of held-out text, as long as these")):
        values = found[name]
        if values is None:
            lines.append(f"The same of held-out text: {NOT_MEASURED}.")
            continue
        share = f"{values['share_with_50_copied']:.1%} copy 50 characters or more"
        if values["longest"] < 50:
            share = "none is long enough to copy 50"
        lines.append(
            f"{values['texts']:,} {label}: the longest passage that stands verbatim in the training text has "
            f"{values['mean_copied_characters']:.1f} characters on average and {values['max_copied_characters']:,} at "
            f"most; {share}."
        )
    return lines


def _canaries(found: list[dict[str, Any]] | None) -> list[str]:
    if not found:
        reason = "" if found is None else " (none were planted: `train.py --canaries`)"
        return [f"Exposure of planted canaries: {NOT_MEASURED}{reason}."]
    lines = []
    for group in found:
        many = f"{group['canaries']} canaries" if group["canaries"] > 1 else "A canary"
        verdict = VERDICTS[group["exposed"]]
        lines.append(
            f"{many} planted {group['repeats']:,}× in the training text: exposure {group['exposure']:.1f} bits of at "
            f"most {group['highest_possible']:.1f}, which chance alone reaches with a probability of "
            f"{group['chance']:.2g}: {verdict}."
        )
    return lines


def _privacy(figures: dict[str, Any]) -> list[str]:
    lines = [f"Redacted in the training text: {redactions(figures.get('redacted'))}."]
    found = figures.get("privacy")
    if found is None:
        return [*lines, f"Personal data in samples: {NOT_MEASURED}."]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found["found"].items()) or "nothing"
    copied = NOT_MEASURED if found["copied"] is None else f"{found['copied']:,}"
    lines.append(
        f"The detectors of personal data and secrets find {kinds} in {found['samples']:,} samples "
        f"({found['share']:.1%} of them); stands verbatim in the training text: {copied}."
    )
    return lines


def _bias(found: list[dict[str, Any]] | None) -> list[str]:
    if found is None:
        return [f"Likelihoods of counterfactual pairs: {NOT_MEASURED}."]
    lines = [
        "Differences of log likelihood in nats per sentence, with 95 % intervals. *Preference*: by how much the first "
        "group's sentences are likelier than the other's, which also shows how common and how long the words are. "
        "*Association*: how much more so in the contexts that prejudice expects; 0 is none, positive is as it says."
    ]
    for contrast in found:
        name = f"{contrast['subject']}, {contrast['language']}"
        if contrast["association"] is None:
            lines.append(f"{name}: {NOT_MEASURED}, the vocabulary lacks {contrast['unknown']:.0%} of the characters.")
            continue
        name += f" ({contrast['question']}; {contrast['sentences']} sentences)"
        clear = "" if contrast["low"] <= 0 <= contrast["high"] else ", not 0"
        lines.append(
            f"{name}: association {contrast['association']:+.2f} ({contrast['low']:+.2f} to {contrast['high']:+.2f}"
            f"{clear}), preference {contrast['preference']:+.2f} ({contrast['preference_low']:+.2f} to "
            f"{contrast['preference_high']:+.2f})."
        )
    return lines


def _toxicity(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [f"Hits of a blocklist in samples: {NOT_MEASURED}."]
    lines = []
    for name, label in (("samples", "samples"), ("training", "the training text")):
        values = found[name]
        if values is None:
            lines.append(f"In the training text: {NOT_MEASURED}.")
            continue
        share = f", {values['share']:.1%} of {values['texts']:,} texts" if name == "samples" else ""
        lines.append(
            f"A blocklist of {values['entries']:,} entries has {values['hits']:,} hits in {label}"
            f" ({values['per_million']:.0f} per million characters{share})."
        )
    return lines
