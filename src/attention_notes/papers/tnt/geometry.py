"""Where words and sentences lie on the image. ``vit`` says it of the outer attention.

The words of a layer are a map beside that of the sentences, so that a rollout from the class token leaves them out.
"""

import torch
from einops import rearrange
from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Pair, Places, Window, extra_tokens, places_of, window
from attention_notes.papers.tnt.model import InnerBlock, WordProjection


@window.register
def _(module: WordProjection, size: Pair) -> Window | None:
    """It reads patches one by one; what cuts the image is around it."""
    return None


@places_of.register
def _(module: InnerBlock, x: Tensor, grid: Grid) -> Places | None:
    """Each patch is a window of its words, where a word counts as the pixels of one step, though it reads 7 x 7."""
    (rows, columns), (my, mx) = grid.size, module.words
    if x.ndim != 4 or x.shape[1:3] != (rows * columns, my * mx):
        return None
    (top, left), (down, across) = grid.centre, (grid.stride[0] / my, grid.stride[1] / mx)
    centre = (top - (grid.stride[0] - down) / 2, left - (grid.stride[1] - across) / 2)
    words = Grid((rows * my, columns * mx), centre, (down, across), grid.below)
    numbers = torch.arange(1, 1 + rows * my * columns * mx)
    cut = rearrange(numbers, "(gy my gx mx) -> (gy gx) (my mx)", gy=rows, my=my, gx=columns)
    return Places(words, words, 0, cut, cut)


@extra_tokens.register
def _(model: InnerBlock) -> tuple[str, ...]:
    """None stand before the words."""
    return ()
