"""PNG pictures of what a model does with a text: alignment, map of the latents, KL of each unit."""

from pathlib import Path

import numpy as np
import torch

VISIBLE = {"\n": "⏎", " ": "␣", "\t": "⇥"}


def draw_alignment(path: Path, weights: np.ndarray, characters: list[str]) -> None:
    """A heat map of alignment weights (P, P): rows are the characters being written, columns places of the plan."""
    figure = new_figure(8, 7)
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="viridis", vmin=0, aspect="equal")
    figure.colorbar(image, label="weight")
    labels = [_visible(character) for character in characters]
    axes.set_xticks(range(len(labels)), labels, fontsize=5)
    axes.set_yticks(range(len(labels)), labels, fontsize=5)
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


def draw_unit_kl(path: Path, kl: list[float]) -> None:
    """Bars of the KL of each latent unit, in nats per segment, the largest first."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    axes.bar(range(1, len(kl) + 1), sorted(kl, reverse=True))
    axes.set(xlabel="latent unit, by its KL", ylabel="nats per segment", title="KL of each latent unit")
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


def _visible(character: str) -> str:
    """The character, if the font of the labels has it, else a box."""
    from matplotlib.font_manager import findfont, get_font

    character = VISIBLE.get(character, character)
    return character if get_font(findfont("DejaVu Sans")).get_char_index(ord(character[0])) else "□"


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
    beside = path.with_name(f".{path.stem}.new.png")
    figure.savefig(beside, dpi=120)
    beside.replace(path)
