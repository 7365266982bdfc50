"""PNG pictures of what a model does with a text: alignment, map of the latents, KL of each unit."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

VISIBLE = {"\n": "⏎", " ": "␣", "\t": "⇥"}


def draw_alignment(path: Path, weights: np.ndarray, characters: list[str]) -> None:
    """A heat map of alignment weights (P, P): rows are the characters being written, columns places of the plan.

    A character for which no font is installed is labelled by its place, counted from 0.
    """
    from matplotlib.font_manager import FontProperties

    figure = new_figure(10, 9)
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="viridis", vmin=0, aspect="equal")
    figure.colorbar(image, label="weight")
    labels = [VISIBLE.get(character, character) for character in characters]
    fonts = fonts_for(labels)
    shown = [label if label in fonts else str(place) for place, label in enumerate(labels)]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(shown)), shown)
        for tick, label in zip(axis.get_ticklabels(), labels, strict=True):
            tick.set_fontproperties(FontProperties(fname=fonts.get(label), size=8))
    for tick in axes.get_xticklabels():
        tick.set_rotation(90 if len(tick.get_text()) > 2 else 0)  # bytes and special tokens
    axes.set(xlabel="place of the plan", ylabel="character to be written", title="alignment in one segment")
    save_figure(figure, path)


def draw_latent_map(path: Path, means: torch.Tensor, values: torch.Tensor, label: str) -> None:
    """The first two principal components of posterior means (N, Z), coloured by `values` (N,), named `label`."""
    points, shares = principal_components(means)
    figure = new_figure(7, 6)
    axes = figure.subplots()
    dots = axes.scatter(*points.T, c=values, cmap="viridis", s=12)
    figure.colorbar(dots, label=label)
    first, second = (f"component {number} ({share:.0%} of the variance)" for number, share in enumerate(shares, 1))
    axes.set(xlabel=first, ylabel=second, title=f"posterior means of {len(means)} segments")
    save_figure(figure, path)


def draw_unit_kl(path: Path, kl: list[float], mixture: bool) -> None:
    """Bars of the KL of each latent unit by itself, in nats per segment, the largest first.

    Under a `mixture` as prior they are estimates and do not add up to the KL of all units; the title says so.
    """
    figure = new_figure(8, 4)
    axes = figure.subplots()
    title = "KL of each latent unit by itself"
    title += "\nestimates: under a mixture as prior they do not add up to the whole KL" if mixture else ""
    axes.bar(range(1, len(kl) + 1), sorted(kl, reverse=True))
    axes.set(xlabel="latent unit, by its KL", ylabel="nats per segment", title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)


def principal_components(means: torch.Tensor) -> tuple[np.ndarray, list[float]]:
    """Points (N, 2) on the two main axes of means (N, Z), and the share of the variance on each; 0 where Z is 1."""
    centred = means.double() - means.double().mean(0)
    left, scale, _ = torch.linalg.svd(centred, full_matrices=False)
    points = torch.zeros(len(means), 2, dtype=torch.float64)
    found = min(2, len(scale))
    points[:, :found] = left[:, :found] * scale[:found]
    variance = scale.square()
    shares = torch.zeros(2, dtype=torch.float64)
    shares[:found] = variance[:found] / variance.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return points.numpy(), shares.tolist()


def fonts_for(labels: Iterable[str]) -> dict[str, str]:
    """A font file for each label: matplotlib's own, else that of an installed one which has the most of the rest.

    Labels that neither has are left out.
    """
    from matplotlib.font_manager import findfont

    labels, own = set(labels), findfont("DejaVu Sans")
    found = dict.fromkeys(_drawable(labels, own), own)
    if rest := labels - found.keys():
        drawable = {file: _drawable(rest, file) for file in installed_fonts()}
        best = max(drawable, key=lambda file: len(drawable[file]))
        found |= dict.fromkeys(drawable[best], best)
    return found


def installed_fonts() -> list[str]:
    """The files of the fonts that matplotlib can draw with, upright ones of normal weight first."""
    from matplotlib.font_manager import FontManager

    # a new manager, for matplotlib keeps a list that knows nothing of fonts installed later
    fonts = FontManager().ttflist
    fonts.sort(key=lambda font: (font.style != "normal", font.weight != 400, font.fname))
    # fonts called "last resort" have a box for every character
    return [font.fname for font in fonts if "lastresort" not in font.fname.lower()]


def _drawable(labels: set[str], file: str) -> set[str]:
    """The labels all of whose characters a font has."""
    from matplotlib.font_manager import get_font

    font = get_font(file)
    return {label for label in labels if all(font.get_char_index(ord(character)) for character in label)}


def new_figure(width: float, height: float):
    """An empty matplotlib figure, sizes in inches, that needs no display."""
    # not at import: it takes a second
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure, path: Path) -> None:
    """Writes a PNG in one move, so that an earlier one stays whole until then."""
    from PIL import Image

    beside = path.with_name(f".{path.stem}.new.png")
    figure.savefig(beside, dpi=120)
    with Image.open(beside) as picture:  # nothing in it is transparent: a tenth smaller without
        picture.convert("RGB").save(beside, optimize=True)
    beside.replace(path)
