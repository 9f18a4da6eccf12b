"""Where the tokens of a Swin Transformer lie on the image: its own ``Windows.cut`` says it."""

from math import prod

import torch
from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Pair, Places, Window, places_of, window
from attention_notes.nn.windows import four_neighbours
from attention_notes.papers.swin.model import CosineWindowAttention, PatchMerging, PostNormMerging, WindowAttention


@window.register(PatchMerging)
@window.register(PostNormMerging)
def _(module: PatchMerging | PostNormMerging, size: Pair) -> Window:
    _, rows, columns, _ = four_neighbours(torch.zeros(1, *size, 1)).shape
    return Window((2, 2), (2, 2), (0, 0), (rows, columns), channels=-1)


@places_of.register(WindowAttention)
@places_of.register(CosineWindowAttention)
def _(module: WindowAttention | CosineWindowAttention, x: Tensor, grid: Grid) -> Places | None:
    if x.shape[1:3] != grid.size:
        return None
    numbers = torch.arange(1.0, 1 + prod(grid.size)).view(1, *grid.size, 1)  # padding will be 0
    queries = module.windows.cut(numbers)
    answers = module.windows.cut_keys(numbers, queries)
    return Places(grid, grid, 0, queries.squeeze(-1).long(), answers.squeeze(-1).long())
