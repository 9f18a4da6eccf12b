"""Where the tokens of a Pyramid Vision Transformer lie on the image, and its fewer keys."""

from math import prod

import torch
from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Pair, Places, Window, places_of, window
from attention_notes.papers.pvt.model import PooledReduction, SpatialReductionAttention, StridedReduction


@window.register
def _(module: StridedReduction, size: Pair) -> Window | None:
    return window(module.convolution, size)


@window.register
def _(module: PooledReduction, size: Pair) -> Window:
    """Its windows are of several sizes, and each is a plain mean."""
    _, _, rows, columns = module.pool.forward(torch.zeros(1, 1, *size)).shape
    apart = (size[0] / rows, size[1] / columns)
    parts = tuple(module.pool.forward(torch.eye(n)[:, None, :, None])[:, 0, :, 0].T for n in size)
    return Window(apart, apart, (0, 0), (rows, columns), parts=parts)


@places_of.register
def _(module: SpatialReductionAttention, x: Tensor, grid: Grid) -> Places | None:
    if x.shape[1:3] == grid.size:
        return Places.one(grid, prod(grid.size), grid.through(module.reduction))
    if x.shape[1] == 1 and isinstance(module.reduction, StridedReduction) and module.reduction.ratio == 1:
        return Places.one(grid, x.shape[2])  # a class token and the map in one row
    return None
