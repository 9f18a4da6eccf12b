"""What the division by the root of the width is for: a softmax over dot products, at any width and temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters.widgets import Live

if TYPE_CHECKING:  # matplotlib takes longer to import than everything else here together
    from matplotlib.axes import Axes

WIDTHS = tuple(2**i for i in range(11))  # of queries and keys, 1 to 1024


def products(*, keys: int = 8, draws: int = 48, seed: int = 0) -> Float[Tensor, "draws widths keys"]:
    """q·k for random vectors of variance one, at every width: a narrow vector is the beginning of the wide one."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(draws, 1, WIDTHS[-1], generator=generator)
    k = torch.randn(draws, keys, WIDTHS[-1], generator=generator)
    return (q * k).double().cumsum(-1)[..., [width - 1 for width in WIDTHS]].mT


def derivative_norm(p: Float[Tensor, "*b m"]) -> Float[Tensor, "*b"]:
    """Frobenius norm of the softmax's derivative with respect to its scores, diag(p) - p pᵀ, from its weights."""
    return (torch.diag_embed(p) - p[..., :, None] * p[..., None, :]).norm(dim=(-2, -1))


def softmax_and_scale(*, keys: int = 8, draws: int = 48, seed: int = 0, width: int = 64) -> Live:
    """Sliders for the width and the temperature; the weights with and without the division, side by side.

    Args:
        keys: how many keys share the attention of a query.
        draws: how many queries, each with keys of its own, there are to choose from; the curves are their means.
        seed: of the vectors.
        width: the one to begin with, a power of two up to 1024.

    Raises:
        ValueError: if there is no such width.
    """
    if width not in WIDTHS:
        raise ValueError(f"width={width} is none of {', '.join(map(str, WIDTHS))}")
    found = products(keys=keys, draws=draws, seed=seed)
    data = {
        "widths": WIDTHS,
        "products": [[[round(score, 4) for score in row] for row in draw] for draw in found.tolist()],
        "first": WIDTHS.index(width),
    }
    alt = (
        f"A softmax over the products of one query with {keys} keys. Sliders change their width and the temperature; "
        "bars show the weights, with their entropy and the norm of the softmax's derivative, once for the plain "
        f"products and once divided by the root of the width. Where scripts are off, both at width {width}: plain, one "
        "key has nearly all of the weight; divided, it is shared."
    )
    return Live("softmax", data, alt=alt, still=_still(found[0, WIDTHS.index(width)], width))


def _still(scores: Float[Tensor, " m"], width: int) -> Axes:
    """The weights of one query, plain and divided."""
    from attention_notes.chapters.plots import COLOURS, canvas

    axes = canvas(1, 2, width=6.4, height=2.2)
    for ax, name, weights in zip(
        axes, ("not divided", "divided by √d"), (scores.softmax(-1), (scores / width**0.5).softmax(-1)), strict=True
    ):
        ax.bar(range(1, 1 + len(weights)), weights.tolist(), color=COLOURS[0])
        ax.set(ylim=(0, 1), title=f"{name}, d = {width}", xlabel="key", ylabel="weight")
    return axes[0]
