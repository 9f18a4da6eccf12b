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
        ax.set(xscale="log", ylabel="top-1 accuracy on ImageNet (%)")
        ax.set_title(title, loc="left")  # in the middle it would look like the label of the axis above
        ax.set(xlim=(min(x for x, _ in points) / 1.3, max(x for x, _ in points) * 1.3))
        ax.set(ylim=(min(accuracies) - 1, max(accuracies) + 1))
    axes[-1].set_xlabel("multiply-accumulates of one image (billions)")
    return axes[0]


def _apart(ends: Mapping[str, tuple[float, float]], *, gap: float) -> dict[str, float]:
    """Heights for the names, in the order of the ends of their lines, no two nearer than ``gap``.

    Each is as near to the end of its line as the squares of all distances allow: names that are too near to each other
    move together, and the others stay.
    """
    order = sorted(ends, key=lambda name: ends[name][1])
    together: list[tuple[float, int]] = []  # of names that move together: the sum of their starts, and how many
    for i, name in enumerate(order):
        total, count = ends[name][1] - i * gap, 1
        while together and together[-1][0] / together[-1][1] >= total / count:
            before = together.pop()
            total, count = total + before[0], count + before[1]
        together.append((total, count))
    starts = [total / count for total, count in together for _ in range(count)]
    return {name: start + i * gap for i, (name, start) in enumerate(zip(order, starts, strict=True))}
