"""Figures of the chapter on positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import HEAT, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scores(maps: Mapping[str, Float[Tensor, "n m"]], *, columns: int = 3) -> Axes:
    """Matrices side by side under their names, queries down and keys across, each with a range of its own."""
    rows = -(-len(maps) // columns)
    axes = canvas(rows, columns, width=2.0 * columns, height=2.15 * rows)
    for ax, (name, matrix) in zip(axes, maps.items(), strict=False):
        ax.imshow(matrix.detach().float().cpu(), cmap=HEAT)
        ax.set_title(name, fontsize=8)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    axes[-columns].set(xlabel="key", ylabel="query")
    return axes[0]


def sinusoids(table: Float[Tensor, "n c"]) -> Axes:
    """A table of positions, positions down and channels across."""
    (ax,) = canvas(width=4.6, height=3.6)
    image = ax.imshow(table.detach().float().cpu(), cmap=HEAT, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, label="value")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK)
    bar.ax.yaxis.label.set_color(INK)
    ax.set(xlabel="channel", ylabel="position")
    ax.spines[:].set_visible(False)
    return ax
