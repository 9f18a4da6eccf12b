"""Figures of the chapter on gated feed-forward networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import HEAT, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def products(points: Mapping[str, tuple[Float[Tensor, " s"], Float[Tensor, " s"], Float[Tensor, " s"]]]) -> Axes:
    """A panel for each gate: a dot for each hidden unit of each token, and in its colour what the unit lets pass.

    Across is the number before the gate's non-linearity, up the value, and the colour is the hidden unit: the same
    range in all panels, zero in the middle, and the largest fiftieth beyond its ends.
    """
    axes = canvas(1, len(points), width=1.5 * len(points), height=2.1)
    largest = torch.cat([passed.detach().abs() for _, _, passed in points.values()]).quantile(0.98).item()
    dots = []
    for ax, (name, (gate, value, passed)) in zip(axes, points.items(), strict=True):
        across, up, colour = (part.detach().float().cpu() for part in (gate, value, passed))
        dots.append(ax.scatter(across, up, c=colour, s=3, linewidths=0, cmap=HEAT, vmin=-largest, vmax=largest))
        ax.axhline(0, color=INK, linewidth=0.5, zorder=0)
        ax.axvline(0, color=INK, linewidth=0.5, zorder=0)
        ax.set_title(name, fontsize=8)
        ax.set(xlabel="xW")
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set(ylabel="xV")
    bar = axes[-1].figure.colorbar(dots[-1], ax=axes, label="hidden unit", shrink=0.9, extend="both")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK)
    bar.ax.yaxis.label.set_color(INK)
    return axes[0]
