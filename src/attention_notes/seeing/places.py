"""Where tokens lie on an image: the cells of a map, what they were made from, and who asks and answers in an attention.

No geometry is written here that a module knows: the numbers of the places are sent through the model's own
``Windows.cut``, and what a cell of a map was made from is found through the kernels and strides that made the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.layers.images import pair
from attention_notes.layers.windows import Pair, four_neighbours
from attention_notes.papers.dnl import DNL
from attention_notes.papers.non_local import NonLocal
from attention_notes.papers.pvt import PooledReduction, SpatialReductionAttention, StridedReduction
from attention_notes.papers.swin import CosineWindowAttention, PatchMerging, PostNormMerging, WindowAttention
from attention_notes.papers.vit import PatchEmbedding, SelfAttention

At = Pair | str  # row and column of a pixel, from 0 at the top left; or the name of an extra token
NAMES = ("class", "distillation")  # the extra tokens, in the order in which models put them in front


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
        kernel, stride, padding, size = window(module, self.size)
        if size == self.size:
            return self
        first = [(k - 1) / 2 - p for k, p in zip(kernel, padding, strict=True)]
        if isinstance(module, PooledReduction):  # its windows are of several sizes, and each is a plain mean
            parts = [module.pool.forward(torch.eye(n)[:, None, :, None])[:, 0, :, 0].T for n in self.size]
        else:
            parts = [_covered(*axis) for axis in zip(first, stride, size, self.size, strict=True)]
        (y, x), (down, across) = self.centre, self.stride
        centre = (y + first[0] * down, x + first[1] * across)
        return Grid(size, centre, (down * stride[0], across * stride[1]), self, tuple(parts))

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


MAKERS = (nn.Conv2d, nn.MaxPool2d, PatchEmbedding, PatchMerging, PostNormMerging)
ATTENTIONS = (SelfAttention, WindowAttention, CosineWindowAttention, SpatialReductionAttention, NonLocal, DNL)


def window(module: nn.Module, size: Pair) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any], Pair]:
    """Kernel, stride, padding, down and across, with which a module makes a map of one of ``size``; and its size."""
    match module:
        case PatchEmbedding():
            return module.patch, module.patch, (0, 0), module.grid
        case PatchMerging() | PostNormMerging():
            _, rows, columns, _ = four_neighbours(torch.zeros(1, *size, 1)).shape
            return (2, 2), (2, 2), (0, 0), (rows, columns)
        case StridedReduction():
            return window(module.convolution, size)
        case PooledReduction():
            _, _, rows, columns = module.pool.forward(torch.zeros(1, 1, *size)).shape
            apart = (size[0] / rows, size[1] / columns)
            return apart, apart, (0, 0), (rows, columns)
        case nn.MaxPool2d():
            _, _, rows, columns = module.forward(torch.zeros(1, 1, *size)).shape  # without our own hooks
            return pair(module.kernel_size), pair(module.stride), pair(module.padding), (rows, columns)
        case nn.Conv2d():
            kernel = [d * (k - 1) + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
            padding = (0, 0) if isinstance(module.padding, str) else module.padding
            ends = zip(size, kernel, module.stride, padding, strict=True)
            rows, columns = ((side + 2 * p - k) // s + 1 for side, k, s, p in ends)
            return kernel, module.stride, padding, (rows, columns)
    return (1, 1), (1, 1), (0, 0), size


def _covered(first: float, stride: int | float, cells: int, below: int) -> Float[Tensor, "{cells} {below}"]:
    """What part of each cell a cell below is: a cell covers a stride, so that overlapping windows count nothing twice.

    ``first`` is the middle of the first cell. What lies beyond the map below is no part.
    """
    middle, j = first + stride * torch.arange(cells)[:, None], torch.arange(below)
    over = torch.minimum(middle + stride / 2, j + 0.5) - torch.maximum(middle - stride / 2, j - 0.5)
    return over.clamp(min=0) / over.clamp(min=0).sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Places:
    """Who asks and who answers in one call of an attention, as slots: 0 is padding, then extra tokens, then cells.

    Args:
        grid: the cells that ask.
        keys: the cells that answer: the same grid, or a coarser one made from it.
        extra: how many tokens that are no cells stand in front of both.
        queries: the slot of every query, window by window; each slot but padding is there once.
        answers: the slot of every key.
    """

    grid: Grid
    keys: Grid
    extra: int
    queries: Int[Tensor, "s n"]
    answers: Int[Tensor, "s m"]

    @classmethod
    def one(cls, grid: Grid, tokens: int, keys: Grid | None = None) -> "Places | None":
        """One window of all ``tokens``, row by row, those without a cell in front; None where cells want a token."""
        keys, extra = keys or grid, tokens - prod(grid.size)
        answers = torch.arange(1, 1 + extra + prod(keys.size))[None]
        return cls(grid, keys, extra, torch.arange(1, 1 + tokens)[None], answers) if extra >= 0 else None

    def slot(self, at: At) -> int:
        """The slot of a pixel or of an extra token. Raises ``ValueError`` if there is no such place."""
        if isinstance(at, str):
            if at not in NAMES[: self.extra]:
                raise ValueError(f"no token {at!r} here: known are {NAMES[: self.extra]} and pixels, (row, column)")
            return 1 + NAMES.index(at)
        row, column = self.grid.cell(*at)
        return 1 + self.extra + row * self.grid.size[1] + column


def places_of(module: nn.Module, x: Tensor, grid: Grid) -> Places | None:
    """Who asks and who answers when ``module`` attends on ``x``; None where that is no map on ``grid``."""
    match module:
        case SelfAttention():
            return Places.one(grid, x.shape[1])
        case WindowAttention() | CosineWindowAttention() if x.shape[1:3] == grid.size:
            numbers = torch.arange(1.0, 1 + prod(grid.size)).view(1, *grid.size, 1)  # padding will be 0
            queries = module.windows.cut(numbers)
            answers = module.windows.cut_keys(numbers, queries)
            return Places(grid, grid, 0, *(slots.squeeze(-1).long() for slots in (queries, answers)))
        case SpatialReductionAttention() if x.shape[1:3] == grid.size:
            return Places.one(grid, prod(grid.size), grid.through(module.reduction))
        case SpatialReductionAttention(reduction=StridedReduction(ratio=1)) if x.shape[1] == 1:
            return Places.one(grid, x.shape[2])  # a class token and the map in one row
        case NonLocal() if x.shape[2:] == grid.size:
            return Places.one(grid, prod(grid.size), grid.through(module.pool))
        case DNL() if x.shape[2:] == grid.size:
            return Places.one(grid, prod(grid.size))
    return None
