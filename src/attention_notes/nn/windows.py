"""Windows of a map of tokens: cut it after a cyclic shift, put it back together, and tell a pair by its offset.

Liu et al. 2021, arXiv 2103.14030 (Swin Transformer) and 2111.09883 (Swin Transformer V2).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.nn.derived import Derived
from attention_notes.nn.initialise import Start
from attention_notes.nn.protocols import Pair
from attention_notes.nn.sizes import pair


def cut_windows(x: Float[Tensor, "b gy gx c"], window: Pair) -> Float[Tensor, "s n c"]:
    """Cut maps into windows, folded into the batch: ``s`` windows of ``n = wy wx`` tokens, image by image, row by row.

    Raises:
        ValueError: if windows do not tile the map.
    """
    if any(side % w for side, w in zip(x.shape[1:3], window, strict=True)):
        raise ValueError(
            f"a map of {x.shape[1]} x {x.shape[2]} cannot be cut into windows of {window[0]} x {window[1]}"
        )
    return rearrange(x, "b (sy wy) (sx wx) c -> (b sy sx) (wy wx) c", wy=window[0], wx=window[1])


def join_windows(windows: Float[Tensor, "s n c"], window: Pair, *, grid: Pair) -> Float[Tensor, "b gy gx c"]:
    """Put windows back into maps of the size ``grid``: the inverse of ``cut_windows``."""
    sy, wy, wx = grid[0] // window[0], *window
    sx = grid[1] // wx
    return rearrange(windows, "(b sy sx) (wy wx) c -> b (sy wy) (sx wx) c", sy=sy, sx=sx, wy=wy, wx=wx)


def shift_mask(grid: Pair, *, window: Pair, shift: Pair) -> Float[Tensor, "s n n"]:
    """What the tokens of each window may see after a cyclic shift: 0 for themselves, -inf for what came round the edge.

    Where the shift brings the top of the map under its bottom, the windows there hold two or four pieces that are no
    neighbours. A piece sees itself only (Liu et al. 2021, figure 4).
    """
    y, x = (_came_round(side, by) for side, by in zip(grid, shift, strict=True))
    piece = (2 * y[:, None] + x).float()
    pieces = cut_windows(piece[None, ..., None], window).squeeze(-1)
    return torch.zeros(()).where(pieces[:, :, None] == pieces[:, None, :], float("-inf"))


def relative_index(window: Pair, keys: Pair | None = None) -> Int[Tensor, "n m"]:
    """For each query and key of a window, which cell of a table of (2 wy - 1) x (2 wx - 1) offsets holds their offset.

    The table's first row belongs to a query at the top and a key at the bottom; its middle cell to the query itself.
    Where the keys are those of a window of ky x kx around it, the table has (wy + ky - 1) x (wx + kx - 1) cells.
    """
    ky, kx = keys or window
    y, x = (axis.flatten() for axis in torch.meshgrid(*(torch.arange(w) for w in window), indexing="ij"))
    v, u = (axis.flatten() for axis in torch.meshgrid(torch.arange(ky), torch.arange(kx), indexing="ij"))
    return (y[:, None] - v + ky - 1) * (window[1] + kx - 1) + x[:, None] - u + kx - 1


def spread(table: Float[Tensor, "h _ _"], index: Int[Tensor, "n m"]) -> Float[Tensor, "h n m"]:
    """From a number for each offset to a number for each pair; ``index`` is that of ``relative_index``."""
    return table.flatten(1).index_select(1, index.flatten()).unflatten(1, index.shape)


def four_neighbours(x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b (gy+1)//2 (gx+1)//2 4*c"]:
    """Each 2 x 2 neighbours as one token, column by column; a map of odd size gets a row or column of zeros first."""
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    return rearrange(x, "b (gy py) (gx px) c -> b gy gx (px py c)", py=2, px=2)


class RelativePositionBias(Derived):
    """One learned number for each head and each offset between query and key (Liu et al. 2021, B of equation 4).

    Args:
        heads: number of heads ``h``.
        window: rows and columns of a window.
        keys: rows and columns of the keys around it; those of the window when not given.
    """

    no_weight_decay = ("table",)
    index: Tensor

    def __init__(self, heads: int, *, window: Pair, keys: Pair | None = None) -> None:
        super().__init__()
        self.window, self.keys = pair(window), pair(keys or window)
        rows, columns = (w + k - 1 for w, k in zip(self.window, self.keys, strict=True))
        self.table = nn.Parameter(torch.empty(heads, rows, columns))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("index", relative_index(self.window, self.keys), persistent=False)

    def forward(self) -> Float[Tensor, "h n m"]:
        """The bias of every pair of a window."""
        return spread(self.table, self.index)

    def resize(self, window: Pair, keys: Pair | None = None) -> None:
        """Interpolate the table for another window, bicubic (Liu et al. 2021, section 3.2)."""
        window, keys = pair(window), pair(keys or window)
        if (window, keys) != (self.window, self.keys):
            size, table = [w + k - 1 for w, k in zip(window, keys, strict=True)], self.table.detach()
            resized = F.interpolate(table.float()[None], size=size, mode="bicubic")[0].to(table.dtype)
            self.table = nn.Parameter(resized, requires_grad=self.table.requires_grad)
            self.window, self.keys = window, keys
            self.rebuild()

    def rebuild(self) -> None:
        """The index of every pair."""
        self.index = relative_index(self.window, self.keys).to(self.table.device)


class ContinuousPositionBias(Derived):
    """A small network G reads the offset: B(Δx, Δy) = 16 sigmoid(G(log Δx, log Δy)) (Swin V2, equations 3 and 4).

    Offsets are divided by the largest of the window in which the model was *trained*, so that another window evaluates
    the same network at other offsets. As in the authors' code, they are then scaled to 8 and become
    ``log2(1 + |x|) / log2(8)``, with their sign, and the sigmoid keeps the bias between 0 and 16; the paper's equations
    have neither.

    That window is in the state dict, as ``trained``, since no parameter has its size. From a state dict without it, as
    others have them, the network counts as trained in the window for which the module was made.

    Args:
        heads: number of heads ``h``.
        window: rows and columns of a window.
        keys: rows and columns of the keys around it; those of the window when not given.
    """

    no_weight_decay = ("network",)
    remembers = ("trained",)
    trained: Tensor
    coordinates: Tensor
    index: Tensor

    def __init__(self, heads: int, *, window: Pair, keys: Pair | None = None) -> None:
        super().__init__()
        self.trained_in = _reach(window, keys or window)
        self.network = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False))
        self.register_buffer("trained", torch.empty(0))
        self.register_buffer("coordinates", torch.empty(0), persistent=False)
        self.register_buffer("index", torch.empty(0), persistent=False)
        self.resize(window, keys)

    def initialise(self, start: Start) -> None:
        """Draw the two linear maps."""
        start(self.network[0])
        start(self.network[2])

    def forward(self) -> Float[Tensor, "h n m"]:
        """The bias of every pair of a window."""
        return spread(16 * self.network(self.coordinates).sigmoid().permute(2, 0, 1), self.index)

    def resize(self, window: Pair, keys: Pair | None = None) -> None:
        """Evaluate the network at the offsets of another window; no parameter changes."""
        self.window, self.keys = window, keys or window
        self.rebuild()

    def rebuild(self) -> None:
        """The offsets as the network reads them, the index of every pair, and what the state dict holds."""
        sides = zip(self.window, self.keys, _reach(self.window, self.keys), self.trained_in, strict=True)
        axes = [torch.arange(1 + r - w - k, r) / max(t - 1, 1) for w, k, r, t in sides]
        offsets = 8 * torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        self.coordinates = (offsets.sign() * (1 + offsets.abs()).log2() / math.log2(8)).to(self.coordinates)
        self.index = relative_index(self.window, self.keys).to(self.coordinates.device)
        self.trained = torch.tensor(self.trained_in, device=self.coordinates.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.setdefault(f"{prefix}trained", self.trained)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if stored.shape == self.trained.shape and not stored.is_meta:
            rows, columns = stored.tolist()
            self.trained_in = rows, columns
            self.rebuild()


class Windows(Derived):
    """A way to cut maps of one size into windows, and the mask that goes with it: the ``Cut`` of an attention.

    A map that windows do not tile is padded with zeros, at its right and its bottom, before the shift. The zeros are
    tokens like all others, and are attended to: so it is in the authors' code, and trained weights expect it. A map
    that is no larger than the window, in one direction or both, makes the window smaller there, and is not shifted.

    Args:
        grid: rows and columns of the map.
        window: rows and columns of a window.
        shifted: whether to shift the windows by half their size, rounded down.
    """

    mask: Tensor | None
    like: Tensor

    def __init__(self, grid: Pair, *, window: Pair, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.register_buffer("like", torch.zeros(()), persistent=False)  # where the module is, also without a mask
        self.register_buffer("mask", None, persistent=False)
        self.regrid(grid, window=window)

    def regrid(self, grid: Pair, *, window: Pair) -> None:
        """Cut maps of another size, or into other windows, from now on."""
        self.grid = grid
        self.window = self.keys = (min(grid[0], window[0]), min(grid[1], window[1]))
        (gy, gx), (wy, wx) = grid, self.window
        self.padded = (-(-gy // wy) * wy, -(-gx // wx) * wx)
        self.shift = (wy // 2 * (self.shifted and wy < gy), wx // 2 * (self.shifted and wx < gx))
        self.rebuild()

    def rebuild(self) -> None:
        """The mask, where windows are shifted."""
        mask = shift_mask(self.padded, window=self.window, shift=self.shift) if any(self.shift) else None
        self.mask = None if mask is None else mask.to(self.like)

    def cut(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "s n c"]:
        """Pad, shift up and left, and cut."""
        down, right = (whole - side for whole, side in zip(self.padded, self.grid, strict=True))
        if down or right:
            x = F.pad(x, (0, 0, 0, right, 0, down))
        if any(self.shift):
            x = x.roll([-by for by in self.shift], (1, 2))
        return cut_windows(x, self.window)

    def cut_keys(self, x: Float[Tensor, "b gy gx c"], queries: Float[Tensor, "s n c"]) -> Float[Tensor, "s n c"]:
        """What each window may look at: its own tokens."""
        return queries

    def join(self, windows: Float[Tensor, "s n c"]) -> Float[Tensor, "b gy gx c"]:
        """Undo ``cut``: join, shift back, and drop the padding."""
        x = join_windows(windows, self.window, grid=self.padded)
        if any(self.shift):
            x = x.roll(self.shift, (1, 2))
        return x[:, : self.grid[0], : self.grid[1]]

    def scores(self, bias: Float[Tensor, "h n n"], *, images: int) -> Float[Tensor, "s h n n"]:
        """What to add to the scores of ``images`` maps: the bias and, where windows are shifted, their mask."""
        if self.mask is None:
            return bias[None]
        return (bias + self.mask[:, None]).repeat(images, 1, 1, 1)

    def extra_repr(self) -> str:
        """Sizes, as printed with the model."""
        return f"grid={self.grid}, window={self.window}, shift={self.shift}"


def _reach(window: Pair, keys: Pair) -> Pair:
    """Offsets of a query from the keys around its window are smaller than these: the window, if it has its own keys."""
    rows, columns = ((w + k) // 2 for w, k in zip(window, keys, strict=True))
    return rows, columns


def _came_round(side: int, by: int) -> Tensor:
    """Which rows, or columns, of the shifted map have come round its edge."""
    return torch.arange(side) >= side - by
