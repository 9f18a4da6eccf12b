"""Where the tokens of a window of Twins lie on the image; those of its global attention are PVT's."""

from math import prod

import torch
from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Places, places_of
from attention_notes.papers.twins.model import LocallyGroupedAttention


@places_of.register
def _(module: LocallyGroupedAttention, x: Tensor, grid: Grid) -> Places | None:
    if x.shape[1:3] != grid.size:
        return None
    numbers = torch.arange(1.0, 1 + prod(grid.size)).view(1, *grid.size, 1)  # padding will be 0
    slots = module.cut(numbers).squeeze(-1).long()
    return Places(grid, grid, 0, slots, slots)
