"""Where tokens lie on an image: the cells of a map, what they were made from, and the queries and keys of an attention.

No geometry is written here that a module knows: the numbers of the places are sent through the model's own
``Windows.cut``, and what a cell of a map was made from is found through the kernels and strides that made the map. A
paper registers its modules with ``window``, ``places_of`` and ``extra_tokens``, in ``papers/<key>/geometry.py``; what
is known of models of other libraries stands in ``foreign.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from math import prod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.nn.sizes import pair

Pair = tuple[int, int]
At = Pair | str  # row and column of a pixel, from 0 at the top left; or the name of an extra token
NAMES = ("class", "distillation")  # the usual extra tokens, in the order in which models put them in front


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a map over the image.

    Args:
        size: rows and columns.
        centre: the pixel in the middle of the first cell, down and across.
        stride: pixels from one cell to the next, down and across.
        below: the finer grid from which this one was made; None where this is the image itself.
        parts: for rows and for columns, what part of a cell (a row of the matrix) each cell below is.
    """

    size: Pair
    centre: tuple[float, float] = (0.0, 0.0)
    stride: tuple[float, float] = (1.0, 1.0)
    below: "Grid | None" = None
    parts: tuple[Tensor, ...] = ()

    def through(self, module: nn.Module) -> "Grid":
        """The grid of the map that a module makes of one on this grid; this one if the module keeps the size."""
        made = window(module, self.size)
        if made is None or made.size == self.size:
            return self
        first = [(k - 1) / 2 - p for k, p in zip(made.kernel, made.padding, strict=True)]
        covered = (_covered(*axis) for axis in zip(first, made.stride, made.size, self.size, strict=True))
        (y, x), (down, across) = self.centre, self.stride
        centre = (y + first[0] * down, x + first[1] * across)
        stride = (down * made.stride[0], across * made.stride[1])
        return Grid(made.size, centre, stride, self, tuple(made.parts or covered))

    def back(self, shares: Float[Tensor, "b gy gx"]) -> Float[Tensor, "b y x"]:
        """Hand each cell's share to the cells below that it was made from, by the part that each of them is."""
        rows, columns = (part.to(shares) for part in self.parts)
        return torch.einsum("bij,iy,jx->byx", shares, rows, columns)

    @property
    def image(self) -> Pair:
        """Rows and columns of pixels."""
        return self.below.image if self.below else self.size

    def cell(self, y: int, x: int) -> Pair:
        """The cell whose middle is nearest to a pixel. Raises ``ValueError`` for a pixel outside the image."""
        if not (0 <= y < self.image[0] and 0 <= x < self.image[1]):
            size = f"{self.image[0]} x {self.image[1]}"
            raise ValueError(f"({y}, {x}) is no pixel of an image of {size}: rows and columns count from 0")
        row, column = (int(self.counted(axis, torch.tensor([p])) + 0.5) for axis, p in enumerate((y, x)))
        return row, column

    def counted(self, axis: int, pixels: Tensor) -> Float[Tensor, " p"]:
        """Rows (axis 0) or columns (1) of pixels, in cells: 0 is the first one's middle, beyond the last is none."""
        return ((pixels - self.centre[axis]) / self.stride[axis]).clamp(0, self.size[axis] - 1)

    def over_image(self, values: Float[Tensor, "*b gy gx"], mode: str) -> Float[Tensor, "*b y x"]:
        """At every pixel the value of the nearest cell, or, ``"bilinear"``, a blend of the nearest four."""
        for axis, side in enumerate(self.image):
            at = self.counted(axis, torch.arange(side)).to(values)
            at = at if mode == "bilinear" else (at + 0.5).floor()
            low, dim = at.floor().long(), values.ndim - 2 + axis
            high, part = (low + 1).clamp(max=self.size[axis] - 1), at - low
            part = part[:, None] if axis == 0 else part
            values = torch.lerp(values.index_select(dim, low), values.index_select(dim, high), part)
        return values


class Window(NamedTuple):
    """How a module makes a map of one, down and across.

    Args:
        kernel: cells of the map below that a cell reads.
        stride: cells from one window to the next.
        padding: cells beyond the border.
        size: rows and columns of the map that is made.
        channels: where the channels are on the module's input; 1 or -1.
        parts: for rows and for columns, what part of a cell each cell below is, where that is no covered stretch.
    """

    kernel: Sequence[Any]
    stride: Sequence[Any]
    padding: Sequence[Any]
    size: Pair
    channels: int = 1
    parts: tuple[Tensor, ...] = ()


@singledispatch
def window(module: nn.Module, size: Pair) -> Window | None:
    """How ``module`` makes a map of one of ``size``; None if it makes none, or none that is known here."""
    return None


@window.register
def _(module: nn.Conv2d, size: Pair) -> Window:
    kernel = [d * (k - 1) + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    padding = (0, 0) if isinstance(module.padding, str) else module.padding
    rows, columns = (
        (side + 2 * p - k) // s + 1 for side, k, s, p in zip(size, kernel, module.stride, padding, strict=True)
    )
    return Window(kernel, module.stride, padding, (rows, columns))


@window.register
def _(module: nn.MaxPool2d, size: Pair) -> Window:
    _, _, rows, columns = module.forward(torch.zeros(1, 1, *size)).shape  # without the hooks of whoever watches
    return Window(pair(module.kernel_size), pair(module.stride), pair(module.padding, least=0), (rows, columns))


def _covered(first: float, stride: int | float, cells: int, below: int) -> Float[Tensor, "{cells} {below}"]:
    """What part of each cell a cell below is: a cell covers a stride, so that overlapping windows count nothing twice.

    ``first`` is the middle of the first cell. What lies beyond the map below is no part.
    """
    middle, j = first + stride * torch.arange(cells)[:, None], torch.arange(below)
    over = torch.minimum(middle + stride / 2, j + 0.5) - torch.maximum(middle - stride / 2, j - 0.5)
    return over.clamp(min=0) / over.clamp(min=0).sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Places:
    """The queries and keys of one call of an attention, as slots: 0 is padding, then extra tokens, then cells.

    Args:
        grid: the cells of the queries.
        keys: the cells of the keys: the same grid, or a coarser one made from it.
        extra: how many tokens that are no cells stand in front of both.
        queries: the slot of every query, window by window; each slot but padding is there once.
        answers: the slot of every key.
        names: what the extra tokens are, as in ``NAMES``; None where only the model around could say.
    """

    grid: Grid
    keys: Grid
    extra: int
    queries: Int[Tensor, "s n"]
    answers: Int[Tensor, "s m"]
    names: tuple[str, ...] | None = ()

    @classmethod
    def one(cls, grid: Grid, tokens: int, keys: Grid | None = None) -> "Places | None":
        """One window of all ``tokens``, row by row, those without a cell first; None if there are fewer than cells."""
        keys, extra = keys or grid, tokens - prod(grid.size)
        if extra < 0:
            return None
        answers = torch.arange(1, 1 + extra + prod(keys.size))[None]
        names = NAMES[:extra] if extra <= len(NAMES) else None
        return cls(grid, keys, extra, torch.arange(1, 1 + tokens)[None], answers, names)

    def slot(self, at: At) -> int:
        """The slot of a pixel or of an extra token. Raises ``ValueError`` if there is no such place."""
        if isinstance(at, str):
            names = self.names or ()
            if at not in names:
                raise ValueError(f"no token {at!r} here: known are {names} and pixels, (row, column)")
            return 1 + names.index(at)
        row, column = self.grid.cell(*at)
        return 1 + self.extra + row * self.grid.size[1] + column


@singledispatch
def places_of(module: nn.Module, x: Tensor, grid: Grid) -> Places | None:
    """The queries and keys when ``module`` attends on ``x``; None where that is no map on ``grid``."""
    return None


@singledispatch
def extra_tokens(model: nn.Module) -> tuple[str, ...] | None:
    """What the tokens are that ``model`` puts in front of its cells, in their order; None where that is not known."""
    return None


def makes_maps(module: nn.Module) -> bool:
    """Whether a module of this class, or of one that it derives from, is known to make maps."""
    return window.dispatch(type(module)) is not window.dispatch(object)


def attends(module: nn.Module) -> bool:
    """Whether a module of this class, or of one that it derives from, is known to attend."""
    return places_of.dispatch(type(module)) is not places_of.dispatch(object)
