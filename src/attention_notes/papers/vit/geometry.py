"""Where the tokens of a Vision Transformer lie on the image."""

from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Pair, Places, Window, places_of, window
from attention_notes.papers.vit.model import PatchEmbedding, SelfAttention


@window.register
def _(module: PatchEmbedding, size: Pair) -> Window:
    return Window(module.patch, module.patch, (0, 0), module.grid)


@places_of.register
def _(module: SelfAttention, x: Tensor, grid: Grid) -> Places | None:
    return Places.one(grid, x.shape[1])
