"""Where the positions of a non-local block lie on the image, and its keys, which may be pooled."""

from math import prod

from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Places, places_of
from attention_notes.papers.non_local.model import NonLocal


@places_of.register
def _(module: NonLocal, x: Tensor, grid: Grid) -> Places | None:
    return Places.one(grid, prod(grid.size), grid.through(module.pool)) if x.shape[2:] == grid.size else None
