"""Figures of the chapter on positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import COLOURS, HEAT, INK, canvas

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


def by_length(
    series: Mapping[str, Mapping[int, float]], baselines: Mapping[str, Mapping[int, float]], *, ylabel: str
) -> Axes:
    """A line for each scheme over the length of the input, the first dashed; a scheme for one length only is a star.

    Baselines are dotted.
    """
    (ax,) = canvas(width=6.4, height=3.4)
    for name, points in baselines.items():
        ax.plot(list(points), list(points.values()), ":", color=INK, label=name)
    colours = iter((INK, *COLOURS))
    for i, (name, points) in enumerate(series.items()):
        if len(points) == 1:
            ax.plot(list(points), list(points.values()), "*", color=INK, markersize=11, label=name, zorder=3)
            continue
        look: dict[str, Any] = {"marker": "osD^vsP"[i % 7], "linestyle": "-" if i else "--", "color": next(colours)}
        ax.plot(list(points), list(points.values()), markersize=4, label=name, **look)
    lengths = sorted({length for points in series.values() for length in points})
    ax.set_xscale("log", base=2)
    ax.set_xticks(lengths, [str(length) for length in lengths])
    ax.minorticks_off()
    ax.set(xlabel="length of the input (letters)", ylabel=ylabel)
    ax.set_ylim(bottom=0)
    ax.legend(labelcolor=INK, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return ax
