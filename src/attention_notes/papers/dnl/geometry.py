"""Where the positions of a disentangled non-local block lie on the image."""

from math import prod

from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Places, places_of
from attention_notes.papers.dnl.model import DNL


@places_of.register
def _(module: DNL, x: Tensor, grid: Grid) -> Places | None:
    return Places.one(grid, prod(grid.size)) if x.shape[2:] == grid.size else None
