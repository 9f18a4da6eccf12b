"""Figures of the Transformer chapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import HEAT, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def alignments(weights: Mapping[str, Float[Tensor, "n _"]], rows: Mapping[str, str]) -> Axes:
    """What was written (down) against what was read (across), a panel for each text; ``rows`` holds what was written.

    Spaces are shown as open boxes; a column is one character.
    """
    axes = canvas(len(weights), 1, width=6.4, height=2.3 * len(weights))
    for ax, (text, matrix) in zip(axes, weights.items(), strict=True):
        ax.imshow(matrix.detach().float().cpu(), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(text)), ["␣" if c.isspace() else c for c in text], fontsize=8)
        ax.set_yticks(range(len(rows[text])), list(rows[text]), fontsize=7)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1].set(xlabel="read")
    axes[0].set_ylabel("written")
    return axes[0]


def masks(
    weights: Sequence[Float[Tensor, "n m"]], titles: Sequence[str], source: Sequence[str], target: Sequence[str]
) -> Axes:
    """Attention weights side by side, queries down and keys across: encoder, decoder, and decoder to encoder."""
    axes = canvas(1, 3, width=7.0, height=2.9)
    words = (source, source), (target, target), (target, source)
    for ax, matrix, title, (rows, columns) in zip(axes, weights, titles, words, strict=True):
        ax.imshow(matrix.detach().float().cpu(), cmap=HEAT, vmin=0)
        ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=9)
        ax.set_yticks(range(len(rows)), rows, fontsize=9)
        ax.set(title=title, xlabel="key")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("query")
    return axes[0]


def recipe(rates: tuple[Mapping[str, Sequence[float]], range], costs: tuple[Mapping[str, Tensor], Tensor]) -> Axes:
    """Two sets of named lines side by side: learning rates over steps, losses over the right token's probability."""
    axes = canvas(1, 2, width=7.0, height=2.8)
    panels: list[tuple[Mapping[str, Iterable[Any]], Iterable[Any]]] = [rates, costs]
    names = ("step", "learning rate"), ("probability of the right token", "loss")
    for ax, (series, over), (xlabel, ylabel) in zip(axes, panels, names, strict=True):
        for name, values in series.items():
            ax.plot([float(x) for x in over], [float(y) for y in values], label=name)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.legend(labelcolor=INK, frameon=False)
    return axes[0]
