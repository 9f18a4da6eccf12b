"""Where the tokens of a block of NesT lie on the image; its convolution and its pooling make the maps."""

import math
from math import prod

import torch
from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Places, places_of
from attention_notes.nn.windows import cut_windows
from attention_notes.papers.nest.model import LocalAttention


@places_of.register
def _(module: LocalAttention, x: Tensor, grid: Grid) -> Places | None:
    """As many blocks along either side of the map."""
    if x.ndim != 4 or x.shape[1] * x.shape[2] != prod(grid.size):
        return None
    side = math.isqrt(x.shape[1])
    if side**2 != x.shape[1] or grid.size[0] % side or grid.size[1] % side:
        return None
    numbers = torch.arange(1.0, 1 + prod(grid.size)).view(1, *grid.size, 1)
    slots = cut_windows(numbers, (grid.size[0] // side, grid.size[1] // side)).squeeze(-1).long()
    return Places(grid, grid, 0, slots, slots)
