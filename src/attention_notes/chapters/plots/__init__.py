"""The book's figures. Each function draws one kind of picture and returns its ``Axes``.

What a single chapter draws is in ``plots.<key>``.

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
    plt.draw_if_interactive()  # loads the backend now: inside the context, a notebook's set-up would be undone with it
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
        ax.legend(labelcolor=INK, frameon=False)
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


def gallery(
    rows: Mapping[str, Sequence[Tensor]],
    *,
    titles: Sequence[str] = (),
    shared: bool = False,
    width: float = 6.0,
) -> Axes:
    """Rows of pictures, each row named at its left; a picture is ``y x``, ``1 y x``, or ``3 y x`` with colours 0 to 1.

    ``shared`` gives all grey pictures one range, from 0 to 1; otherwise each has its own. ``titles`` stand over the
    first row. Returns the axes of the first picture.
    """
    first = next(iter(rows.values()))[0]
    columns = max(len(row) for row in rows.values())
    one = width / columns * first.shape[-2] / first.shape[-1]
    axes = canvas(len(rows), columns, width=width, height=len(rows) * one + 0.3 * bool(titles))
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for r, (name, row) in enumerate(rows.items()):
        axes[r * columns].set_ylabel(name, fontsize=7)
        for ax, picture in zip(axes[r * columns :], row, strict=False):
            pixels = picture.detach().float().cpu().squeeze()
            limits = (0, 1) if shared else (None, None)
            ax.imshow(pixels.movedim(0, -1) if pixels.ndim == 3 else pixels, cmap=HEAT, vmin=limits[0], vmax=limits[1])
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title, fontsize=8)
    return axes[0]


def bars(values: Mapping[str, float], *, xlabel: str, marks: Mapping[str, float] | None = None) -> Axes:
    """One bar for each named value, from the top down; ``marks`` are named lines across, as what chance gives."""
    (ax,) = canvas(height=0.5 + 0.4 * len(values))
    ax.barh(list(values), [float(value) for value in values.values()], color=COLOURS[0])
    beside = ax.get_yaxis_transform()  # in a column, where no line crosses them
    for row, value in enumerate(values.values()):
        ax.text(1.01, row, f"{value:.2f}", va="center", color=INK, transform=beside)
    for (name, at), colour in zip((marks or {}).items(), COLOURS[1:], strict=False):
        ax.axvline(at, color=colour, linestyle="--", zorder=0)
        ax.text(at, 1.01, name, color=colour, ha="center", fontsize=8, transform=ax.get_xaxis_transform())
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    return ax


def intervals(
    spans: Mapping[str, tuple[float, float]], *, xlabel: str, within: tuple[float, float] | None = None
) -> Axes:
    """A bar from low to high for each name, from the top down; ``within`` shades a range behind them all."""
    (ax,) = canvas(height=0.5 + 0.28 * len(spans))
    for row, (low, high) in enumerate(spans.values()):
        ax.plot([low, high], [row, row], linewidth=5, solid_capstyle="butt", color=COLOURS[0])
    if within is not None:
        ax.axvspan(*within, color=COLOURS[1], alpha=0.4, linewidth=0)
    ax.set_yticks(range(len(spans)), list(spans))
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    return ax


def patches(image: Float[Tensor, "3 y x"], *, size: int) -> Axes:
    """An image cut apart into square patches; the ticks number the first patch of every row, as tokens are counted."""
    image = image.detach().float().cpu()
    (ax,) = canvas(width=4.6, height=4.6 * image.shape[1] / image.shape[2])
    rows, columns, gap = image.shape[1] // size, image.shape[2] // size, max(size // 6, 1)
    step = size + gap
    apart = image.new_zeros(rows * step - gap, columns * step - gap, 4)  # the gaps are transparent
    for row in range(rows):
        for column in range(columns):
            piece = image[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            cell = apart[row * step : row * step + size, column * step : column * step + size]
            cell[..., :3], cell[..., 3] = piece.movedim(0, -1), 1
    ax.imshow(apart.numpy())
    ax.set_yticks([row * step + size / 2 for row in range(rows)], [str(row * columns + 1) for row in range(rows)])
    ax.set(xticks=[], ylabel="first token of the row")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
