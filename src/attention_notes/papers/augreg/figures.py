"""The figure of the chapter on AugReg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attention_notes.chapters.plots import INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gains(panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[int]]]], *, levels: Sequence[str]) -> Axes:
    """A panel for each kind of training, a row for each model, a column for each setting, and its gain in each cell.

    A gain is the difference to the first column, without augmentation and regularisation. Green is better, purple
    worse, on one scale; the right half is with regularisation.
    """
    axes = canvas(len(panels), 1, width=5.6, height=1.75 * len(panels) + 0.5)
    names = [*levels, *levels]
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        numbers = [[value - without[0] for value in (*without, *regularised)] for without, regularised in rows.values()]
        ax.imshow(numbers, cmap="PRGn", vmin=-15, vmax=15, aspect="auto")
        for y, row in enumerate(numbers):
            for x, value in enumerate(row):
                text = f"{value:+d}".replace("-", "−") if value else "0"
                ink = "white" if abs(value) > 9 else "black"
                ax.text(x, y, text, ha="center", va="center", fontsize=6.5, color=ink)
        ax.axvline(len(levels) - 0.5, color=INK, linewidth=2)
        ax.set_title(title, fontsize=8)
        ax.set_yticks(range(len(rows)), [*rows], fontsize=7)
        ax.set_xticks(range(len(names)), names if ax is axes[-1] else [""] * len(names), rotation=60, fontsize=7)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1].set_xlabel("level without dropout and stochastic depth (left half), and with both at 0.1 (right half)")
    axes[-1].xaxis.label.set_fontsize(7.5)
    return axes[0]
