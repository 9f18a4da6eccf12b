"""Self-Attention with Relative Position Representations, Shaw et al. 2018, arXiv 1803.02155, and its relatives.

In one sentence: tell attention where its tokens stand, at the input (a vector for each place) or, since only
differences of places matter, inside the attention itself (a vector, a number or an angle for each difference).

From other papers: ``BucketBias``, Raffel et al. 2020 (T5), arXiv 1910.10683; ``LinearBias``, Press et al. 2021 (ALiBi),
arXiv 2108.12409; ``Rotary``, Su et al. 2021 (RoFormer), arXiv 2104.09864; ``ConditionalPositions``, Chu et al. 2021
(CPVT), arXiv 2102.10882; ``GridBias``, as in Swin, Liu et al. 2021, arXiv 2103.14030.

Departures: all share one encoder, pre-norm and with ReLU, so that nothing differs but the positions. Shaw's tables are
shared by the heads of a layer, as in the paper's big model (section 4.1); its base model has tables for each head. They
start with a standard deviation of one over the root of the head's width, of which the paper says nothing. T5 does not
scale its scores and has one table for all layers; here they are scaled and every layer has its own. ALiBi was made for
causal attention; without a mask, ours falls with the distance on both sides.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.nn.attention import Mask, attention, attention_weights
from attention_notes.nn.heads import check_heads
from attention_notes.nn.mlp import MLP
from attention_notes.papers.transformer import PreNorm, Sinusoids


def offsets(n: int, m: int, device: torch.device | None = None) -> Int[Tensor, "n m"]:
    """How far each key stands to the right of each query, j - i; left is negative."""
    return torch.arange(m, device=device) - torch.arange(n, device=device)[:, None]


def joined(bias: Float[Tensor, "*_ n m"], mask: Mask | None) -> Float[Tensor, "*_ n m"]:
    """A bias, and on top of it a mask: minus infinity where a query may not look."""
    if mask is None:
        return bias
    return bias + mask if mask.is_floating_point() else bias.masked_fill(~mask, float("-inf"))


class Plain(nn.Module):
    """Attention that knows no positions; every core is made and called like this one.

    Args:
        width: width ``d`` of a query or a key in one head.
        heads: number of heads ``h``.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()

    def forward(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        *,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b h n d"]:
        """Softmax attention; ``mask`` broadcasts to ``b h n m``."""
        return attention(q, k, v, mask=mask)


class RelativePositions(nn.Module):
    """A vector for each difference of places, added to keys and values (Shaw et al. 2018, equations 3, 4 and 5).

        e_ij = q_i (k_j + a^K_ij)ᵀ / √d,   z_i = Σ_j softmax(e_i)_j (v_j + a^V_ij),   a_ij = w_clip(j - i, r)

    with the paper's k, the distance beyond which all are the same, written r as ``reach``. One table for all heads
    (section 3.3), so that ``n m d`` numbers are held and not ``b h n m d``.

    Args:
        width: width ``d`` of a query or a key in one head.
        heads: not needed; all heads share the tables.
        reach: the clipping distance; there are ``2 reach + 1`` vectors in each table.
    """

    def __init__(self, width: int, *, heads: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.keys = nn.Parameter(torch.randn(2 * reach + 1, width) * width**-0.5)
        self.values = nn.Parameter(torch.randn(2 * reach + 1, width) * width**-0.5)

    def forward(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        *,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b h n d"]:
        """Content and position are two sums: the first stays in the fused kernel, the second needs the weights."""
        index = offsets(q.shape[-2], k.shape[-2], q.device).clamp(-self.reach, self.reach) + self.reach
        bias = torch.einsum("bhnd,nmd->bhnm", q, self.keys[index]) * q.shape[-1] ** -0.5
        bias = joined(bias, mask)
        weights = attention_weights(q, k, mask=bias)
        return attention(q, k, v, mask=bias) + torch.einsum("bhnm,nmd->bhnd", weights, self.values[index])


class Biased(nn.Module):
    """What has a ``bias`` that is added to the scores; abstract."""

    def bias(self, q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b m d"]) -> Float[Tensor, "h n m"]:
        """A number for each head, query and key."""
        raise NotImplementedError

    def forward(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        *,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b h n d"]:
        """Attention with the bias."""
        return attention(q, k, v, mask=joined(self.bias(q, k), mask))


class BucketBias(Biased):
    """A number for each bucket of distances, added to the scores (Raffel et al. 2020, section 2.1).

    Near distances have a bucket each, further ones share buckets that grow with the logarithm of the distance, and
    from ``furthest`` on there is one. Half of the buckets are for keys to the right.

    Args:
        width: not needed; the bias is added to the scores.
        heads: number of heads ``h``; each has its own numbers.
        buckets: number of buckets; a multiple of four.
        furthest: distance at which the last bucket begins.

    Raises:
        ValueError: if ``buckets`` is no multiple of four, or ``furthest`` lies within the single buckets.
    """

    def __init__(self, width: int, *, heads: int, buckets: int = 32, furthest: int = 128) -> None:
        super().__init__()
        if buckets % 4 or furthest <= buckets // 4:
            raise ValueError(
                f"buckets={buckets} must be a multiple of 4, and furthest={furthest} above a quarter of that"
            )
        self.furthest = furthest
        self.table = nn.Parameter(torch.randn(buckets, heads) * 0.02)

    def bucket(self, offset: Int[Tensor, "n m"]) -> Int[Tensor, "n m"]:
        """The bucket of each offset ``j - i``."""
        half = len(self.table) // 2
        exact = half // 2
        far = offset.abs().clamp(min=exact).float()
        grown = exact + (torch.log(far / exact) / math.log(self.furthest / exact) * (half - exact)).long()
        return torch.where(offset.abs() < exact, offset.abs(), grown.clamp(max=half - 1)) + half * (offset > 0)

    def bias(self, q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b m d"]) -> Float[Tensor, "h n m"]:
        """What is added to the scores: constant along every diagonal."""
        return self.table[self.bucket(offsets(q.shape[-2], k.shape[-2], q.device))].permute(2, 0, 1)


class GridBias(Biased):
    """A number for each difference in rows and columns of a grid (Liu et al. 2021, equation 4).

    Args:
        width: not needed; the bias is added to the scores.
        heads: number of heads ``h``; each has its own numbers.
        grid: rows and columns of the grid whose tokens are read row by row.

    Raises:
        ValueError: when the tokens are not those of the grid.
    """

    def __init__(self, width: int, *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.randn(2 * grid[0] - 1, 2 * grid[1] - 1, heads) * 0.02)

    def bias(self, q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b n d"]) -> Float[Tensor, "h n n"]:
        """What is added to the scores."""
        (rows, columns), device = self.grid, q.device
        if q.shape[-2] != rows * columns:
            raise ValueError(f"{q.shape[-2]} tokens, but a grid of {rows} x {columns}")
        down = rows - 1 - offsets(rows, rows, device)  # of the query below the key
        right = columns - 1 - offsets(columns, columns, device)
        return rearrange(self.table[down[:, None, :, None], right[:, None]], "i j k l h -> h (i j) (k l)")


class LinearBias(Biased):
    """Scores fall with the distance, in each head at a slope of its own (Press et al. 2021, section 3).

        softmax(q_i Kᵀ / √d - s |i - j|),   s = 2^(-8/h), 2^(-16/h), ..., 2^-8

    No parameters. Where ``h`` is no power of two, the slopes are those of the power below, and then every other one of
    the power above, as in the authors' code.

    Args:
        width: not needed; the bias is added to the scores.
        heads: number of heads ``h``.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        power = 2 ** int(math.log2(heads))
        steps = [-8 * (i + 1) / power for i in range(power)] + [-4 * (2 * i + 1) / power for i in range(heads - power)]
        self.slopes = [2**step for step in steps]

    def bias(self, q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b m d"]) -> Float[Tensor, "h n m"]:
        """What is added to the scores: largest where query and key are one."""
        slopes = torch.tensor(self.slopes, dtype=q.dtype, device=q.device)
        return -slopes[:, None, None] * offsets(q.shape[-2], k.shape[-2], q.device).abs()


class Rotary(nn.Module):
    """Each pair of channels of a query or a key is turned by an angle that grows with its place (Su et al. 2021).

        (x_2i, x_2i+1)  ->  R(p θ_i) (x_2i, x_2i+1),   θ_i = base^(-2i/d)                    (equations 14 to 16, 34)

    so that the product of a query at p and a key at q depends on q - p only. No parameters. Pairs are neighbours, as in
    the paper and in Meta's code of Llama; the port of Llama to transformers pairs channel i with i + d/2, another
    order of the same channels.

    Args:
        width: width ``d`` of a query or a key in one head; even.
        heads: not needed; all heads turn in the same way.
        base: of the geometric sequence of angles.
        pace: from one token to the next; below 1 it squeezes a longer text into known places (Chen et al. 2023).

    Raises:
        ValueError: if ``width`` is odd.
    """

    def __init__(self, width: int, *, heads: int, base: float = 10000.0, pace: float = 1.0) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width={width} is odd: channels are turned in pairs")
        self.base = base
        self.pace = pace

    def turned(self, x: Float[Tensor, "*b n d"], *, start: int = 0) -> Float[Tensor, "*b n d"]:
        """Turn the rows of ``x``, the first of which stands at position ``start``."""
        exact = torch.promote_types(x.dtype, torch.float32)
        rates = self.base ** -(torch.arange(0, x.shape[-1], 2, device=x.device, dtype=exact) / x.shape[-1])
        places = torch.arange(start, start + x.shape[-2], device=x.device, dtype=exact) * self.pace
        angles = places[:, None] * rates
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    def forward(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m d"],
        *,
        mask: Mask | None = None,
    ) -> Float[Tensor, "b h n d"]:
        """Attention of the turned queries to the turned keys; values stay as they are."""
        return attention(self.turned(q), self.turned(k), v, mask=mask)


class GridSinusoids(nn.Module):
    """Sinusoids in two dimensions: half of the channels for the row, half for the column.

    Args:
        dim: width ``c`` of the tokens; a multiple of four.
        columns: tokens are read row by row, so many a row; there may be any number of rows.

    Raises:
        ValueError: if ``dim`` is no multiple of four, or the tokens do not fill their last row.
    """

    def __init__(self, dim: int, *, columns: int) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"dim={dim} is not divisible by 4: a sine and a cosine each for rows and columns")
        self.columns = columns
        self.line = Sinusoids(dim // 2)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "n c"]:
        """The rows for the tokens ``x``."""
        rows = x.shape[1] // _filled(x, self.columns)
        half = x[..., : self.line.dim]
        down, along = self.line(half[:, :rows]), self.line(half[:, : self.columns])
        return torch.cat([down.repeat_interleave(self.columns, 0), along.repeat(rows, 1)], -1)


class ConditionalPositions(nn.Module):
    """A position is made from a token's neighbourhood by a 3 x 3 depthwise convolution (Chu et al. 2021, section 3.2).

    The sum x + PEG(x) is the encoder's. Where a token stands is known from the zeros around the grid alone.

    Args:
        dim: width ``c`` of the tokens.
        columns: tokens are read row by row, so many a row; None puts them all in one row, however many.
        padding: what lies around the grid, ``"zeros"`` or ``"circular"``.

    Raises:
        ValueError: if the tokens do not fill their last row.
    """

    def __init__(
        self, dim: int, *, columns: int | None = None, padding: Literal["zeros", "circular"] = "zeros"
    ) -> None:
        super().__init__()
        self.columns = columns
        self.convolution = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, padding_mode=padding)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """What is added to the tokens ``x``; unlike other positions, it depends on them."""
        columns = _filled(x, self.columns or x.shape[1])
        grid = rearrange(x, "b (gy gx) c -> b c gy gx", gx=columns)
        return self.convolution(grid).flatten(2).transpose(1, 2)


def _filled(x: Tensor, columns: int) -> int:
    if x.shape[1] % columns:
        raise ValueError(f"{x.shape[1]} tokens do not fill rows of {columns}")
    return columns


Core = Callable[..., nn.Module]  # made as core(width, heads=heads), called as core(q, k, v, mask=mask)


class SelfAttention(nn.Module):
    """Multi-head self-attention whose ``core`` decides what happens between queries, keys and values.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, core: Core) -> None:
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.core = core(dim // heads, heads=heads)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n c"], *, mask: Mask | None = None) -> Float[Tensor, "b n c"]:
        """Let each token look at all; ``mask`` broadcasts to ``b h n n``."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.output(rearrange(self.core(q, k, v, mask=mask), "b h n d -> b n (h d)"))


class Layer(nn.Module):
    """Attention, then the perceptron, each before its sum normalised."""

    def __init__(self, dim: int, *, heads: int, hidden: int, core: Core, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads=heads, core=core)
        self.mlp = MLP(dim, hidden=hidden, activation=nn.ReLU)
        self.residuals = nn.ModuleList(PreNorm(dim, dropout=dropout) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n c"], *, mask: Mask | None = None) -> Float[Tensor, "b n c"]:
        """One layer; ``mask`` broadcasts to ``b h n n``."""
        x = self.residuals[0](x, lambda x: self.attention(x, mask=mask))
        return self.residuals[1](x, self.mlp)


class Encoder(nn.Module):
    """A stack of layers, one norm at its end, and the two places where positions can enter.

    Args:
        dim: width ``c`` of the tokens.
        layers: number of layers.
        heads: number of heads ``h``; must divide ``dim``.
        hidden: width inside the perceptron.
        core: makes the inside of each attention, as ``Plain``, ``Rotary``, ``partial(RelativePositions, reach=16)``.
        positions: makes from x what is added to x, as ``Sinusoids``, ``LearnedPositions``, ``ConditionalPositions``.
        after: how many layers come before that sum; CPVT's convolution stands after the first.
        dropout: of what attention and perceptron add.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``, or if no layer follows the positions.
    """

    def __init__(
        self,
        dim: int,
        *,
        layers: int,
        heads: int,
        hidden: int,
        core: Core = Plain,
        positions: nn.Module | None = None,
        after: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if positions is not None and not 0 <= after < layers:
            raise ValueError(f"after={after}, but there are layers={layers}: the positions would never be added")
        sizes: dict[str, Any] = {"heads": heads, "hidden": hidden, "dropout": dropout}
        self.layers = nn.ModuleList(Layer(dim, core=core, **sizes) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.positions = positions
        self.after = after

    def forward(self, x: Float[Tensor, "b n c"], mask: Mask | None = None) -> Float[Tensor, "b n c"]:
        """Tokens in, tokens out; ``mask`` broadcasts to ``b h n n``."""
        for i, layer in enumerate(self.layers):
            if self.positions is not None and i == self.after:
                x = x + self.positions(x)
            x = layer(x, mask=mask)
        return self.norm(x)
