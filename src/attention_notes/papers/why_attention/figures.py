"""Figures of the chapter on why attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.plots import COLOURS, HEAT, INK, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dependences(matrices: Mapping[str, Float[Tensor, "s n"]], *, columns: int = 4) -> Axes:
    """Who depends on whom, a panel for each operator: outputs down, inputs across, in powers of ten of the largest.

    What does not depend at all is left blank; three powers of ten are told apart.
    """
    rows = -(-len(matrices) // columns)
    axes = canvas(rows, columns, width=6.4, height=1.75 * rows)
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=False):
        strength = matrix.detach().double().cpu()
        shade = (strength / strength.max()).clamp(min=1e-3).log10().masked_fill(strength == 0, float("nan"))
        image = ax.imshow(shade, cmap=HEAT, vmin=-3, vmax=0, aspect="auto")
        ax.set_title(name, fontsize=8)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(True)
    for ax in axes[len(matrices) :]:
        ax.axis("off")
    for ax in axes[(rows - 1) * columns : len(matrices)]:
        ax.set_xlabel("input", fontsize=8)
    for row in range(rows):
        axes[row * columns].set_ylabel("output", fontsize=8)
    bar = axes[0].figure.colorbar(image, ax=axes, shrink=0.7, ticks=[-3, -2, -1, 0], label="derivative / largest")
    bar.ax.set_yticklabels(["$\\leq 10^{-3}$", "$10^{-2}$", "$10^{-1}$", "1"], color=INK)
    bar.ax.tick_params(colors=INK)
    bar.ax.yaxis.label.set(color=INK, size=8)
    bar.outline.set_visible(False)
    return axes[0]


def fields(
    photo: Float[Tensor, "3 y x"],
    maps: Mapping[str, Float[Tensor, "y x"]],
    *,
    positions: Sequence[tuple[int, int]],
    widths: Sequence[int | None],
) -> Axes:
    """A photograph, and for each map how much one of its pixels takes from every other; a ring marks that pixel.

    ``widths`` are sides of theoretical receptive fields, drawn as squares; ``None`` draws none.
    """
    columns = (len(maps) + 2) // 2
    axes = canvas(2, columns, width=6.4, height=6.4 / columns * photo.shape[1] / photo.shape[2] * 2 + 0.5)
    axes[0].imshow(photo.detach().float().cpu().movedim(0, -1))
    axes[0].set_title("photograph", fontsize=8)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_visible(False)
    axes[0].set_visible(True)
    for ax, (name, field), (row, column), width in zip(axes[1:], maps.items(), positions, widths, strict=False):
        ax.set_visible(True)
        ax.imshow(field.detach().float().cpu(), cmap=HEAT, vmin=0, vmax=float(torch.quantile(field.float(), 0.998)))
        ax.plot(column, row, "o", markerfacecolor="none", markeredgecolor=COLOURS[1], markersize=5)
        ax.set_title(name, fontsize=8)
        if width is not None:
            left, right, top, bottom = (at + sign * width / 2 for at in (column, row) for sign in (-1, 1))
            ax.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=COLOURS[1], linewidth=1)
            ax.set(xlim=(-0.5, field.shape[1] - 0.5), ylim=(field.shape[0] - 0.5, -0.5))
    return axes[0]
