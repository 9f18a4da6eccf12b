"""What only the chapter on PVT draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attention_notes.chapters.plots import COLOURS, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pyramid(models: Mapping[str, Sequence[tuple[int, int]]]) -> Axes:
    """One bar for each layer of each model, as high as its map has rows; its channels stand over each new width.

    ``{"ViT": [(14, 768)] * 12}``: rows of the map and channels, in the order of the layers.
    """
    axes = canvas(1, len(models), width=6.4, height=2.6)
    top = max(rows for layers in models.values() for rows, _ in layers)
    for ax, (name, layers) in zip(axes, models.items(), strict=True):
        widths = sorted({channels for _, channels in layers})
        for i, (rows, channels) in enumerate(layers):
            colour = COLOURS[widths.index(channels) % len(COLOURS)]
            ax.bar(i, rows, bottom=(top - rows) / 2, width=0.75, color=colour)
            if i == 0 or layers[i - 1][1] != channels:
                ax.text(i - 0.4, (top + rows) / 2 + 1, str(channels), fontsize=8, color=colour, va="bottom")
        ax.set(title=name, xlabel="layer", yticks=[], ylim=(0, top * 1.15), xticks=[0, len(layers) - 1])
        ax.set_xticklabels(["1", str(len(layers))])
        ax.spines["left"].set_visible(False)
        ax.tick_params(colors=INK)
    axes[0].set_ylabel("rows of the map")
    return axes[0]
