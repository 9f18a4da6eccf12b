"""Figure of the chapter on Swin: windows over a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import COLOURS, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cuts = tuple[Sequence[float], Sequence[float]]  # the rows and the columns of pixels at which windows end


def windows(image: Float[Tensor, "3 y x"], panels: Mapping[str, tuple[tuple[int, int], Cuts]]) -> Axes:
    """The same image in each panel, rolled by so many rows and columns of pixels, with the borders of its windows."""
    axes = canvas(1, len(panels), width=6.4, height=6.4 / len(panels) * image.shape[1] / image.shape[2] + 0.3)
    for ax, (title, (roll, (rows, columns))) in zip(axes, panels.items(), strict=True):
        ax.imshow(image.roll(roll, (1, 2)).detach().float().cpu().movedim(0, -1))
        for row in rows:
            ax.axhline(row - 0.5, color=COLOURS[1], linewidth=1.6)
        for column in columns:
            ax.axvline(column - 0.5, color=COLOURS[1], linewidth=1.6)
        for side, by, length in zip((ax.axhline, ax.axvline), roll, image.shape[1:], strict=True):
            if by:
                side(length + by - 0.5, color=COLOURS[0], linestyle=":", linewidth=2.2)
        ax.set(xticks=[], yticks=[], title=title)
        ax.spines[:].set_visible(False)
    return axes[0]
