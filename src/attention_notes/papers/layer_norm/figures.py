"""Figures of the chapter on layer norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import COLOURS, HEAT, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def influence(maps: Mapping[str, Float[Tensor, "b n c"]], *, at: tuple[int, int, int]) -> Axes:
    """How strongly one output depends on each input, a panel for each norm: sentences and tokens down, features across.

    The frame marks the output, ``at`` a sentence, token and feature; lines part the sentences. Each panel has colours
    of its own, from none to the strongest influence; what has no influence at all is left empty.
    """
    axes = canvas(1, len(maps), width=1.3 * len(maps), height=3.0)
    for ax, (name, strength) in zip(axes, maps.items(), strict=True):
        sentences, tokens, features = strength.shape
        shown = strength.detach().float().cpu().flatten(0, 1).abs()
        ax.imshow(shown.where(shown > 0, float("nan")), cmap=HEAT, vmin=-0.2 * shown.max().item(), aspect="auto")
        for border in range(1, sentences):
            ax.axhline(border * tokens - 0.5, color=INK, linewidth=0.8)
        row, column = at[0] * tokens + at[1], at[2]
        corner = [column - 0.5, column + 0.5, column + 0.5, column - 0.5, column - 0.5]
        ax.plot(corner, [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5], color=COLOURS[1], linewidth=2)
        ax.set_title(name, fontsize=8)
        ax.set(xlabel="feature", xticks=[], xlim=(-0.5, features - 0.5))
        ax.set_yticks([])
        ax.spines[:].set_color(INK)
        ax.spines[:].set_visible(True)
    axes[0].set_yticks([(i + 0.5) * tokens - 0.5 for i in range(sentences)], [str(i + 1) for i in range(sentences)])
    axes[0].tick_params(length=0)
    axes[0].set_ylabel("sentence, with its tokens")
    return axes[0]
