"""The figures of *Same data, same budget*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from attention_notes.chapters.plots import COLOURS, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def seeds(
    accuracies: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]], baselines: Mapping[str, float]
) -> Axes:
    """A line for each model, from the top down: a dot for each seed, an upright stroke for their mean.

    ``others`` are rings on the same lines, ``baselines`` dotted lines from top to bottom. All in per cent.
    """
    (ax,) = canvas(width=6.6, height=0.27 * len(accuracies) + 1.1)
    for line, (name, right) in enumerate(accuracies.items()):
        ax.plot(right, [line] * len(right), "o", color=COLOURS[0], alpha=0.6, markersize=4)
        ax.plot([mean(right)] * 2, [line - 0.32, line + 0.32], color=COLOURS[1], linewidth=1.8)
        other = others.get(name, ())
        ax.plot(other, [line] * len(other), "o", color=COLOURS[0], markerfacecolor="none", markersize=4)
    lowest = min(baselines.values())
    for name, value in baselines.items():
        ax.axvline(value, color=INK, linewidth=0.8, linestyle=":")
        ax.text(value, -0.8, name, ha="right" if value == lowest else "left", va="bottom", fontsize=8, color=INK)
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    ax.set(xlabel="test accuracy (%)", ylim=(len(accuracies) - 0.4, -0.7))
    return ax


def curves(panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> list[Axes]:
    """A panel for each kind of model, a line for each model: the mean over seeds after each epoch, and their range."""
    axes = canvas(1, len(panels), width=8.0, height=3.4)
    for ax, (kind, models) in zip(axes, panels.items(), strict=True):
        for colour, (name, runs) in zip(COLOURS, models.items(), strict=False):
            columns = list(zip(*runs, strict=True))
            epochs = range(1, len(columns) + 1)
            ax.fill_between(epochs, [*map(min, columns)], [*map(max, columns)], color=colour, alpha=0.15, linewidth=0)
            ax.plot(epochs, [*map(mean, columns)], marker=".", color=colour, label=name)
        ax.set(title=kind, xlabel="epochs")
        ax.sharey(axes[0])
        ax.legend(labelcolor=INK, frameon=False, fontsize=8, loc="lower right")
    axes[0].set(ylabel="validation accuracy (%)")
    return axes


def over_cost(kinds: Mapping[str, Mapping[str, tuple[float, float]]]) -> Axes:
    """A point ``(MMACs, per cent)`` for each model with its name, a colour for each kind.

    A name stands on the right of its point, and on the left where another point lies just below.
    """
    (ax,) = canvas(width=6.6, height=4.4)
    every = [point for models in kinds.values() for point in models.values()]
    for colour, (kind, models) in zip(COLOURS, kinds.items(), strict=False):
        ax.plot(*zip(*models.values(), strict=True), "o", color=colour, label=kind)
        for name, (cost, right) in models.items():
            crowded = any(abs(x - cost) < 0.5 and 0 < right - y < 0.8 for x, y in every)
            side = "right" if crowded else "left"
            off = (-5 if crowded else 5, 0)
            point = (cost, right)
            ax.annotate(name, point, off, textcoords="offset points", ha=side, va="center", fontsize=8, color=INK)
    ax.set(xlabel="cost of an image (MMACs)", ylabel="test accuracy (%)")
    ax.legend(labelcolor=INK, frameon=False, fontsize=8)
    return ax
