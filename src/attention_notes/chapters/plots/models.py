"""The figure of the page that lists every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from typing import TYPE_CHECKING

from attention_notes.chapters.plots import COLOURS, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]


def accuracy_over_cost(panels: Mapping[str, Mapping[str, Points]]) -> Axes:
    """A panel for each set of families, a line for each family, a point ``(GMACs, per cent)`` for each model.

    The panels stand one above the other and share their axes; the cost is logarithmic, and each line is named at its
    most expensive model. Returns the axes of the first panel.
    """
    names = list(dict.fromkeys(chain.from_iterable(panels.values())))
    looks = dict(zip(names, zip(cycle(COLOURS), cycle("osD^v"), strict=False), strict=False))
    axes = canvas(len(panels), 1, width=6.4, height=3.6 * len(panels))
    points = [point for series in panels.values() for line in series.values() for point in line]
    accuracies = [accuracy for _, accuracy in points]
    for ax, (title, series) in zip(axes, panels.items(), strict=True):
        ends = {}
        for name, line in series.items():
            x, y = zip(*sorted(line), strict=True)
            colour, marker = looks[name]
            ax.plot(x, y, marker=marker, markersize=4, linewidth=1.2, color=colour)
            ends[name] = (x[-1], y[-1])
        for name, height in _apart(ends, gap=(max(accuracies) - min(accuracies)) / 22).items():
            ax.annotate(
                name,
                ends[name],
                (1.02, height),
                textcoords=ax.get_yaxis_transform(),
                va="center",
                fontsize=8,
                color=looks[name][0],
                arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 3},
            )
        ax.set(xscale="log", ylabel="top-1 accuracy on ImageNet (%)", title=title)
        ax.set(xlim=(min(x for x, _ in points) / 1.3, max(x for x, _ in points) * 1.3))
        ax.set(ylim=(min(accuracies) - 1, max(accuracies) + 1))
    axes[-1].set_xlabel("multiply-accumulates of one image (billions)")
    return axes[0]


def _apart(ends: Mapping[str, tuple[float, float]], *, gap: float) -> dict[str, float]:
    """Heights for the names, in the order of the ends of their lines, no two nearer than ``gap``."""
    order = sorted(ends, key=lambda name: ends[name][1])
    heights: dict[str, float] = {}
    for name in order:
        below = max(heights.values(), default=-float("inf"))
        heights[name] = max(ends[name][1], below + gap)
    shift = sum(heights[name] - ends[name][1] for name in order) / max(len(order), 1)
    return {name: height - shift for name, height in heights.items()}
