"""Who can see whom: which cells of a map can act on which, after so many blocks, measured on the book's own models.

A cell that cannot act has a derivative of exactly zero: no path leads from it, or only paths through weights that a
mask has made exactly zero. A cell that can act has another: everything is smooth here, and all parameters are random.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops.layers.torch import Rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attention_notes.chapters.widgets import Live
from attention_notes.nn.mlp import MLP
from attention_notes.nn.windows import Windows
from attention_notes.papers import pvt, swin, vit
from attention_notes.papers.non_local import EmbeddedGaussian, NonLocal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 4  # channels: who sees whom does not depend on it
_TOGETHER = 49  # cells whose derivatives are taken in one backward pass


def stacks(*, side: int, window: int, blocks: int) -> dict[str, list[nn.Module]]:
    """The models to compare, as blocks from a map ``b gy gx c`` to a map of the same size, with random weights.

    Args:
        side: rows and columns of the map.
        window: rows and columns of Swin's windows, and of the map that PVT's keys are reduced to.
        blocks: how many of each.
    """
    makers: dict[str, Callable[[int], nn.Module]] = {
        "ViT": lambda _: _on_tokens(vit.Block(_WIDTH, heads=1, hidden=2 * _WIDTH), side),
        "Swin, not shifted": lambda _: _swin(side, window, shifted=False),
        "Swin, shifted": lambda i: _swin(side, window, shifted=i % 2 == 1),
        "PVT": lambda _: _pvt(ratio=side // window),
        "Non-local": lambda _: _channels_first(_non_local()),
        "3 x 3 convolution": lambda _: _channels_first(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.GELU()),
    }
    with torch.random.fork_rng(devices=[]):  # whoever calls keeps the random numbers that were next
        torch.manual_seed(0)
        made = {name: [make(i) for i in range(blocks)] for name, make in makers.items()}
    return {name: [block.double().eval().requires_grad_(False) for block in line] for name, line in made.items()}


def pull(blocks: Sequence[nn.Module], *, side: int, cells: Iterable[int]) -> Float[Tensor, "s n"]:
    """How strongly each of the ``n = side²`` cells of a random map acts on each of the given cells of what comes out.

        Σ_e | ∂ (r · y_i) / ∂ x_je |

    with e the channels of the input and r a random direction among those of the output: the plain sum over channels
    has no derivative after a norm. Each of the ``s`` cells has a copy of the map to itself.
    """
    draw = torch.Generator().manual_seed(0)
    x, r = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((1, side, side, _WIDTH), (_WIDTH,)))
    pulls = []
    for some in torch.as_tensor(list(cells)).split(_TOGETHER):
        copies = x.repeat(len(some), 1, 1, 1).requires_grad_()
        y = nn.Sequential(*blocks)(copies).flatten(1, 2)[torch.arange(len(some)), some]
        (gradient,) = torch.autograd.grad((y @ r).sum(), copies)
        pulls.append(gradient.abs().sum(-1).flatten(1))
    return torch.cat(pulls)


def measure(blocks: Sequence[nn.Module], *, side: int) -> Bool[Tensor, "k n n"]:
    """Who sees whom: after one block, after two, and so on, for each cell that looks, whether each cell acts on it.

    Once every cell sees all, only the corners and the middle are computed after deeper blocks: a block takes
    in what each cell has, and adds to it.
    """
    n, masks = side * side, list[Tensor]()
    few = [0, side - 1, n // 2 + side // 2, n - side, n - 1]
    for depth in range(1, len(blocks) + 1):
        full = bool(masks) and bool(masks[-1].all()) and bool((pull(blocks[:depth], side=side, cells=few) > 0).all())
        masks.append(masks[-1] if full else pull(blocks[:depth], side=side, cells=range(n)) > 0)
    return torch.stack(masks)


def who_sees_whom(*, side: int = 14, window: int = 7, blocks: int = 6) -> Live:
    """The live figure: pick a cell and a number of blocks, and every model shows which cells act on that cell.

    The sizes are those of ViT-B/16 throughout, and of the third stages of Swin, of PVT and of a ResNet, where Non-local
    blocks stand, for images of 224 pixels.

    Args:
        side: rows and columns of the map.
        window: rows and columns of a window; must divide ``side``.
        blocks: up to how many.
    """
    models = stacks(side=side, window=window, blocks=blocks)
    masks = {name: measure(line, side=side) for name, line in models.items()}
    start = (window // 2 - 1) * side + window - 2  # near the top edge, where a shifted window is masked
    different, which = torch.cat([mask.flatten(0, 1) for mask in masks.values()]).unique(dim=0, return_inverse=True)
    shown = [
        {"name": name, "borders": [_borders(block) for block in line], "seen": seen.tolist()}
        for (name, line), seen in zip(models.items(), which.view(len(models), blocks, -1), strict=True)
    ]
    data = {"side": side, "start": start, "masks": pack_bits(different), "models": shown}
    return Live("sees", data, alt=_in_words(masks, start, side), still=_picture(masks, start, side))


def pack_bits(rows: Bool[Tensor, "s n"]) -> dict[str, Any]:
    """Yes and no in one bit each; every row begins with a byte of its own, whose lowest bit comes first."""
    packed = np.packbits(rows.numpy(), axis=1, bitorder="little")
    return {"row": packed.shape[1], "bytes": base64.b64encode(packed.tobytes()).decode()}


def _on_tokens(block: nn.Module, side: int) -> nn.Module:
    return nn.Sequential(Rearrange("b gy gx c -> b (gy gx) c"), block, Rearrange("b (gy gx) c -> b gy gx c", gy=side))


def _channels_first(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(Rearrange("b gy gx c -> b c gy gx"), *layers, Rearrange("b c gy gx -> b gy gx c"))


def _swin(side: int, window: int, *, shifted: bool) -> nn.Module:
    return swin.Block(_WIDTH, heads=1, windows=Windows((side, side), window=(window, window), shifted=shifted))


def _pvt(*, ratio: int) -> nn.Module:
    reduction = pvt.StridedReduction(_WIDTH, ratio=ratio)
    attention = pvt.SpatialReductionAttention(_WIDTH, heads=1, reduction=reduction)
    return pvt.Block(_WIDTH, attention=attention, mlp=MLP(_WIDTH, hidden=2 * _WIDTH))


def _non_local() -> nn.Module:
    divided = partial(EmbeddedGaussian, scale=(_WIDTH // 2) ** -0.5)  # scores as in the authors' code
    block: Any = NonLocal(_WIDTH, pairwise=divided)
    nn.init.ones_(block.norm.weight)  # it starts as the identity, and would see nothing
    return block


def _borders(block: nn.Module) -> list[int]:
    """Before which columns (and rows) of the map a window begins, for drawing; none for a block without windows."""
    if not isinstance(block, swin.Block):
        return []
    windows: Any = block.attention.windows
    rows, columns = windows.grid
    tokens = windows.cut(torch.arange(float(rows * columns)).view(1, rows, columns, 1))[..., 0].long()
    owner = torch.empty(rows * columns, dtype=torch.long)
    owner[tokens] = torch.arange(len(tokens))[:, None].expand_as(tokens)
    return [int(at) + 1 for at in owner[:columns].diff().nonzero()]


def _in_words(masks: Mapping[str, Tensor], cell: int, side: int) -> str:
    depths = len(next(iter(masks.values())))
    counts = (f"{name}: {', '.join(map(str, mask[:, cell].sum(-1).tolist()))}" for name, mask in masks.items())
    return (
        f"A map of {side} x {side} cells for each of {len(masks)} models. Coloured are the cells that can act on a "
        f"chosen one. On row {cell // side + 1}, column {cell % side + 1}, so many of {side * side} act after 1 to "
        f"{depths} blocks. {'; '.join(counts)}."
    )


def _picture(masks: Mapping[str, Tensor], cell: int, side: int) -> Axes:
    """A row for each of the first three depths, a column for each model."""
    from attention_notes.chapters.plots import gallery

    depths = min(3, *map(len, masks.values()))
    names = [f"{k} block{'s' * (k > 1)}" for k in range(1, depths + 1)]
    rows = {name: [mask[k, cell].view(side, side).float() for mask in masks.values()] for k, name in enumerate(names)}
    return gallery(rows, titles=list(masks), shared=True, width=7.5)
