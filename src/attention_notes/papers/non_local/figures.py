"""What the chapter on non-local networks draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from attention_notes.chapters.plots import COLOURS, INK, canvas, gallery

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARK = "#ff3fa4"  # in no photograph, and not in the colour map


def marked(
    rows: Mapping[str, Sequence[Tensor]],
    places: Mapping[int, tuple[int, int]],
    *,
    titles: Sequence[str] = (),
    shared: bool = False,
) -> Axes:
    """A gallery in which a ring stands at a pixel, row and column, of some pictures, counted row by row from 0."""
    first = gallery(rows, titles=titles, shared=shared)
    for picture, (y, x) in places.items():
        first.figure.axes[picture].plot(x, y, "o", ms=9, mfc="none", mec=MARK, mew=1.6)
    return first


def by_distance(scores: Mapping[str, Sequence[float]], *, chance: float, unit: str = "frames") -> Axes:
    """One line for each model: the share of games it wins, by how far apart the pair is; a line across is chance."""
    (ax,) = canvas()
    for (name, shares), marker, colour in zip(scores.items(), "os^Dvx*", (INK, *COLOURS), strict=False):
        ax.plot(range(1, 1 + len(shares)), [float(s) for s in shares], marker=marker, color=colour, label=name)
    ax.axhline(chance, color=INK, linestyle="--", linewidth=1)
    ax.text(1, chance - 0.045, "chance", color=INK, fontsize=8)
    ax.set(xlabel=f"distance of the pair ({unit})", ylabel="games won (share)", ylim=(0, 1))
    ax.set_xticks(range(1, 1 + max(len(shares) for shares in scores.values())))
    ax.legend(labelcolor=INK, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
