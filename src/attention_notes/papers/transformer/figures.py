"""Figures of the Transformer chapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import HEAT, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def alignments(weights: Mapping[str, Float[Tensor, "n _"]], rows: Mapping[str, str]) -> Axes:
    """What was written (down) against what was read (across), a panel for each text; ``rows`` holds what was written.

    Spaces are shown as open boxes; a column is one character.
    """
    axes = canvas(len(weights), 1, width=6.4, height=2.3 * len(weights))
    for ax, (text, matrix) in zip(axes, weights.items(), strict=True):
        ax.imshow(matrix.detach().float().cpu(), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(text)), ["␣" if c.isspace() else c for c in text], fontsize=8)
        ax.set_yticks(range(len(rows[text])), list(rows[text]), fontsize=7)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1].set(xlabel="read")
    axes[0].set_ylabel("written")
    return axes[0]
