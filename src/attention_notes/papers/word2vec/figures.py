"""Figures of the chapter on word2vec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import COLOURS, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def neighbours(panels: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]]) -> Axes:
    """A panel for each set of vectors; a row for each word, with the words nearest to it and their cosines."""
    axes = canvas(len(panels), 1, width=6.4, height=sum(0.5 + 0.26 * len(rows) for rows in panels.values()))
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        for y, (word, near) in enumerate(rows.items()):
            ax.text(0, y, word, weight="bold", va="center", fontsize=7.5, color=COLOURS[0])
            for i, (other, cosine) in enumerate(near):
                ax.text(0.14 + 0.26 * i, y, f"{other} {cosine:.2f}", va="center", fontsize=7.5, color=INK)
        ax.set(xlim=(0, 1.2), ylim=(len(rows) - 0.5, -0.5), xticks=[], yticks=[])
        ax.set_title(title, fontsize=9, loc="left")
        ax.spines[:].set_visible(False)
    return axes[0]


def against(x: Float[Tensor, " q"], y: Float[Tensor, " q"], *, xlabel: str, ylabel: str) -> Axes:
    """A point for each pair of numbers, and the line on which they would be equal."""
    (ax,) = canvas(width=4.4, height=3.6)
    ax.plot(x.detach().float().cpu(), y.detach().float().cpu(), ".", markersize=2, alpha=0.4)
    ends = [float(x.min()), float(x.max())]
    ax.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax
