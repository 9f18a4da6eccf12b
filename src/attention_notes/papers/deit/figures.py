"""Figures of the DeiT chapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attention_notes.chapters.plots import COLOURS, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def two_tokens(*, patches: int = 6) -> Axes:
    """Tokens into an encoder and out of it; the labels judge the first output, the teacher the second."""
    (ax,) = canvas(width=5.4, height=3.3)
    colours = [COLOURS[0], COLOURS[1], *[INK] * patches]
    for i, colour in enumerate(colours):
        for y in (0.0, 2.6):
            ax.text(i, y, "    ", bbox={"boxstyle": "square,pad=0.2", "fc": colour, "ec": "none", "alpha": 0.75})
        ax.annotate("", (i + 0.12, 1.0), (i + 0.12, 0.32), arrowprops={"arrowstyle": "-|>", "color": colour})
        ax.annotate("", (i + 0.12, 2.42), (i + 0.12, 1.78), arrowprops={"arrowstyle": "-|>", "color": colour})
    box = {"boxstyle": "round,pad=0.4", "fc": "none", "ec": COLOURS[2], "lw": 1.4}
    ax.text(
        (len(colours) - 1) / 2 + 0.12,
        1.39,
        f"{'encoder: every token looks at every token':^74}",
        color=INK,
        bbox=box,
        ha="center",
        va="center",
    )
    for i, (name, judge) in enumerate((("class", "labels"), ("distillation", "teacher"))):
        ax.text(i + 0.12, -0.45, name, rotation=28, ha="right", va="top", color=colours[i])
        ax.annotate("", (i + 0.12, 3.55), (i + 0.12, 2.95), arrowprops={"arrowstyle": "-|>", "color": colours[i]})
        ax.text(i + 0.12, 3.7, judge, rotation=28, ha="left", va="bottom", color=colours[i])
    ax.text(2 + (patches - 1) / 2 + 0.12, -0.45, "patches", ha="center", va="top", color=INK)
    ax.set(xlim=(-1.2, len(colours)), ylim=(-1.4, 4.7))
    ax.axis("off")
    return ax


def runs(scores: Mapping[str, Sequence[float]], *, xlabel: str, marks: Mapping[str, float] | None = None) -> Axes:
    """Every run of every recipe as a dot, the mean of a recipe as a stroke; ``marks`` are named lines across."""
    (ax,) = canvas(height=0.7 + 0.42 * len(scores))
    for row, values in enumerate(scores.values()):
        ax.plot(values, [row] * len(values), "o", color=COLOURS[0], alpha=0.7, markersize=6)
        mean = sum(values) / len(values)
        ax.plot([mean, mean], [row - 0.32, row + 0.32], color=COLOURS[1], linewidth=2.5)
    for name, at in (marks or {}).items():
        ax.axvline(at, color=INK, linestyle="--", zorder=0)
        ax.text(at, 1.01, name, color=INK, ha="center", fontsize=8, transform=ax.get_xaxis_transform())
    ax.set_yticks(range(len(scores)), list(scores))
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    return ax
