"""The book's figures. Each function draws one kind of picture and returns its ``Axes``.

One figure serves the light and the dark page: the ground is transparent, lines and words are a grey that reads on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:  # matplotlib takes longer to import than everything else here together
    from matplotlib.axes import Axes

INK = "#808080"
# Colours that keep their distance on white, on near-black and for colour-blind readers (after Wong 2011).
COLOURS = ("#2f8fd0", "#e0802b", "#2a9d6f", "#c76fa6", "#b8941f", "#8a7fd6")
HEAT = "viridis"
_STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.dpi": 160,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
}


def canvas(rows: int = 1, columns: int = 1, *, width: float = 6.0, height: float = 3.0) -> list[Axes]:
    """Empty axes in the house style, row by row; sizes in inches."""
    import matplotlib.pyplot as plt
    from cycler import cycler

    style: Any = {**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}
    with plt.rc_context(style):
        _, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return list(axes.flat)


def lines(
    series: Mapping[str, Sequence[float] | Tensor],
    x: Sequence[float] | Tensor | None = None,
    *,
    xlabel: str,
    ylabel: str,
    log: str = "",
) -> Axes:
    """One line for each named series, over ``x`` or over its index; ``log`` names the logarithmic axes, as ``"xy"``."""
    (ax,) = canvas()
    for name, y in series.items():
        values = [float(value) for value in y]
        ax.plot(range(len(values)) if x is None else [float(value) for value in x], values, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    if len(series) > 1:
        ax.legend(labelcolor=INK)
    return ax


def heatmap(
    weights: Float[Tensor, "n m"],
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    ylabel: str = "query",
    xlabel: str = "key",
) -> Axes:
    """A matrix of weights, queries down and keys across, with the tokens' names where they are given."""
    (ax,) = canvas(width=4.2, height=3.6)
    image = ax.imshow(weights.detach().float().cpu(), cmap=HEAT, vmin=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, label="weight")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK)
    bar.ax.yaxis.label.set_color(INK)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if columns is not None:
        ax.set_xticks(range(len(columns)), columns, rotation=90)
    if rows is not None:
        ax.set_yticks(range(len(rows)), rows)
    ax.spines[:].set_visible(False)
    return ax
