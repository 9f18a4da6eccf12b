"""Figures of the chapter on Show, Attend and Tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import canvas
from attention_notes.chapters.plots.attention import looking

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def captions(rows: Sequence[tuple[Float[Tensor, "1 y x"], Sequence[str], Float[Tensor, "n l"]]], *, side: int) -> Axes:
    """A row for each image: the image, and over it the weights of ``side`` x ``side`` cells before each word."""
    columns = 1 + max(len(words) for _, words, _ in rows)
    axes = canvas(len(rows), columns, width=6.4, height=len(rows) * (6.4 / columns + 0.25))
    for ax in axes:
        ax.set_axis_off()
    for i, (image, words, weights) in enumerate(rows):
        looking(image, title="the image", ax=axes[i * columns])
        for ax, word, share in zip(axes[i * columns + 1 :], words, weights, strict=False):
            cells = share.unflatten(-1, (side, side))
            for axis in (0, 1):
                cells = cells.repeat_interleave(image.shape[1 + axis] // side, axis)
            looking(image, cells, title=word, ax=ax)
    return axes[0]
