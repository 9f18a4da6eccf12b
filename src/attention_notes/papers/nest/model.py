"""Nested Hierarchical Transformer: Towards Accurate, Data-Efficient and Interpretable Visual Understanding.

Zhang et al. 2021, arXiv 2105.12723; its first version is called Aggregating Nested Transformers. The idea: plain
Transformer layers run within the blocks of a map, and between two levels the blocks are put back onto the image, where
a small convolution and a pooling merge each four of them into one: a tree of blocks.

Departures:
    - GELU is exact, as in timm's port of the weights; the authors' code calls JAX's, which by default is its
      approximation by a tanh.
    - Images need not be square: a tree of L levels has 2^(L-1) x 2^(L-1) blocks at its leaves, and the blocks are as
      high and as wide as the image makes them.
    - ``resize`` keeps the tree and makes its blocks larger or smaller; the authors' code has no such function.
    - No dropout but in and after the attention, and in the perceptron: the authors' configurations have none at all.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import AttentionDropout, attention
from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.drop_path import depth_rates
from attention_notes.nn.heads import check_heads
from attention_notes.nn.initialise import OwnLayers, Start, initialise, zero_bias
from attention_notes.nn.norms import layer_norm
from attention_notes.nn.protocols import Make, Pair, Stem, resize_stem
from attention_notes.nn.sizes import Size, pair
from attention_notes.nn.variants import given, lookup
from attention_notes.nn.vision import Backbone, Indices, linear_head, maps_after
from attention_notes.nn.windows import cut_windows, join_windows
from attention_notes.papers.vit import Block, MeanPooling, PatchEmbedding, SelfAttention, resize_positions
from attention_notes.weights.pretrained import pretrainable


class LocalAttention(nn.Module):
    """Each block attends to itself: all ``t`` blocks of all images are one batch of a plain attention.

        MSA_NesT(Q, K, V) = Stack(Block_1, ..., Block_T),    Block_i = MSA(Q_i, K_i, V_i) W^O

    All blocks share the weights.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        attention: makes the attention of a block from the width, ``heads`` and ``options``.
        options: of ``attention``.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, attention: Make = SelfAttention, **options: Any) -> None:
        super().__init__()
        self.attend = attention(dim, heads=heads, **options)

    def initialise(self, start: Start) -> None:
        """Draw the maps of the attention."""
        initialise(self.attend, start=start)

    def forward(self, z: Float[Tensor, "b t n c"]) -> Float[Tensor, "b t n c"]:
        """Let every token look at its block."""
        mixed = self.attend(rearrange(z, "b t n c -> (b t) n c"))
        return rearrange(mixed, "(b t) n c -> b t n c", t=z.shape[1])


class MultiQueryAttention(OwnLayers):
    """Attention whose heads share one set of keys and values (Shazeer 2019, arXiv 1911.02150).

    The authors' code has it in its models for CIFAR; the queries are those of ``SelfAttention``. Arguments and errors
    as there.
    """

    def __init__(self, dim: int, *, heads: int, qkv_bias: bool = True, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.query = nn.Linear(dim, dim, bias=qkv_bias)
        self.key_value = nn.Linear(dim, 2 * dim // heads, bias=qkv_bias)
        self.output = nn.Linear(dim, dim)
        self.attention_dropout = AttentionDropout(attention_dropout)

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token."""
        q = rearrange(self.query(z), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.key_value(z), "b n (kv d) -> kv b 1 n d", kv=2).expand(2, -1, self.heads, -1, -1)
        return self.output(rearrange(attention(q, k, v, dropout=self.attention_dropout.rate), "b h n d -> b n (h d)"))


max_pool = partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True)  # on even sides JAX's "SAME": windows begin at 0, 2, 4
centred_max_pool = partial(nn.MaxPool2d, 3, stride=2, padding=1)  # at -1, 1, 3: timm's models without ``_jx``


class BlockAggregation(OwnLayers):
    """Four blocks become one, on the image plane (section "Block aggregation").

        AGG(x) = MaxPool_3x3/2(LN(Conv_3x3(x)))

    It is given the map into which the blocks have been put back, so that the convolution and the pooling read across
    the borders of the blocks.

    Args:
        dim: width ``c`` of the tokens that come in.
        to: width ``w`` of those that leave.
        norm: makes the norm from its width.
        pool: makes the pooling, which halves both sides of a map ``b w gy gx``.
    """

    def __init__(self, dim: int, *, to: int, norm: Make = layer_norm, pool: Make = max_pool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(dim, to, 3, padding=1)
        self.norm = norm(to)
        self.pool = pool()

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy//2 gx//2 w"]:
        """Convolve, normalise each token, keep the largest of each channel."""
        y = rearrange(self.convolution(rearrange(x, "b gy gx c -> b c gy gx")), "b w gy gx -> b gy gx w")
        pooled = self.pool(rearrange(self.norm(y), "b gy gx w -> b w gy gx"))
        return rearrange(pooled, "b w gy gx -> b gy gx w")


class Level(nn.Module):
    """One level of the tree: aggregation, positions, and Transformer layers within the blocks of a map.

        z = Block(AGG(x)) + PE,    x' = UnBlock(Layers(z))

    Args:
        dim: width ``c`` of the tokens.
        grid: rows and columns of the map.
        side: number of blocks along each side of the map; both must be multiples of it.
        aggregation: makes the map from that of the level below, or leaves it as it is.
        blocks: the Transformer layers, on ``b t n c``.
    """

    no_weight_decay = ("positions",)

    def __init__(self, dim: int, *, grid: Pair, side: int, aggregation: nn.Module, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.side, self.grid = side, grid
        self.aggregation = aggregation
        self.blocks = Blocks(*blocks)
        self.positions = nn.Parameter(torch.empty(1, side**2, self.block[0] * self.block[1], dim))
        truncated(self.positions)

    @property
    def block(self) -> Pair:
        """Rows and columns of a block."""
        return self.grid[0] // self.side, self.grid[1] // self.side

    def initialise(self, start: Start) -> None:
        """Draw the aggregation and the layers; the positions stay."""
        initialise(self.aggregation, *self.blocks, start=start)

    def cut(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b t n c"]:
        """Block: the ``n`` tokens of each of the ``t`` blocks, row by row."""
        return rearrange(cut_windows(x, self.block), "(b t) n c -> b t n c", t=self.side**2)

    def join(self, z: Float[Tensor, "b t n c"]) -> Float[Tensor, "b gy gx c"]:
        """UnBlock: the blocks as a map, the inverse of ``cut``."""
        return join_windows(rearrange(z, "b t n c -> (b t) n c"), self.block, grid=self.grid)

    def forward(self, x: Float[Tensor, "b y x w"]) -> Float[Tensor, "b gy gx c"]:
        """From the map of the level below to the map of this one."""
        return self.join(self.blocks(self.cut(self.aggregation(x)) + self.positions))

    def regrid(self, grid: Pair) -> None:
        """Interpolate the positions on the image plane for a map of another size, in as many blocks."""
        if grid != self.grid:
            row = rearrange(self.join(self.positions.detach()), "1 gy gx c -> 1 (gy gx) c")
            row = resize_positions(row, grid=self.grid, to=grid, extra=0)
            self.grid = grid
            positions = self.cut(rearrange(row, "1 (gy gx) c -> 1 gy gx c", gy=grid[0])).contiguous()
            self.positions = nn.Parameter(positions, requires_grad=self.positions.requires_grad)


def truncated(weight: Tensor) -> None:
    """Draw numbers as the authors' code does: 0.02 times normal ones that lie between -2 and 2."""
    nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


def start(layer: nn.Module, *, parts: int = 1) -> None:
    """Linear maps and convolutions, with biases of zero."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        truncated(layer.weight)
        zero_bias(layer)


class NesT(Backbone):
    """Patches, levels of blocks that become fewer by four, and a head on the mean of the last block.

    Level ``l``, counted from the pixels and from 0, has T_l = 4^(L-1-l) blocks, and all blocks have as many tokens.

    Args:
        patches: turns images into tokens of width ``patches.dim``, one for each cell of ``patches.grid``.
        dims: width of each level; the first is that of ``patches``.
        depths: Transformer layers of each level.
        heads: heads of each level.
        num_classes: width of the output; ``None`` for no head: the model then returns the mean of its tokens.
        block: makes a layer from the width, ``heads``, ``hidden``, ``attention``, ``drop_path`` and ``options``.
        attention: makes the attention of a block, as ``SelfAttention`` or ``MultiQueryAttention``.
        aggregation: makes what stands before each level but the first from the two widths, as ``BlockAggregation``, and
            a given ``norm``.
        norm: makes every norm from its width, also those of layers and aggregations; ``layer_norm`` when not given.
        drop_path: probability of dropping a branch in the last layer; it grows linearly from 0 at the first.
        options: of ``block``; those of ``Block`` are ``mlp``, ``activation``, ``qkv_bias``, ``layer_scale``,
            ``dropout``, ``attention_dropout`` and ``projection_dropout``.

    Raises:
        ValueError: if there are not as many widths, depths and heads, if the first width is not that of the patches, if
            their map cannot be halved for every level, or if ``num_classes`` is neither None nor 1 or more.
    """

    start_head = staticmethod(start)

    def __init__(
        self,
        patches: Stem,
        *,
        dims: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        num_classes: int | None,
        block: Make = Block,
        attention: Make = SelfAttention,
        aggregation: Make = BlockAggregation,
        norm: Make | None = None,
        drop_path: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if len({len(dims), len(depths), len(heads)}) > 1 or not dims:
            raise ValueError(f"dims={dims}, depths={depths}, heads={heads}: one of each for every level, and one level")
        if dims[0] != patches.dim:
            raise ValueError(f"the patches have width {patches.dim}, but the first level has {dims[0]}: give it theirs")
        _check_tree(patches.grid, (1, 1), len(dims))
        self.patches = patches
        told, rates = given(norm=norm), iter(depth_rates(drop_path, sum(depths)))
        options |= {"attention": partial(LocalAttention, attention=attention), **told}
        self.levels = nn.ModuleList()
        for i, (dim, depth, grid) in enumerate(zip(dims, depths, self._grids(len(dims)), strict=True)):
            layers = [
                block(dim, heads=heads[i], hidden=4 * dim, drop_path=next(rates), **options) for _ in range(depth)
            ]
            merge = aggregation(dims[i - 1], to=dim, **told) if i else nn.Identity()
            self.levels.append(Level(dim, grid=grid, side=2 ** (len(dims) - 1 - i), aggregation=merge, blocks=layers))
        self.num_features = dims[-1]
        self.norm = (norm or layer_norm)(self.num_features)
        self.pooling = MeanPooling(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.initialise(start)

    def initialise(self, start: Start) -> None:
        """Draw the linear maps and convolutions of levels and head anew; the stem's stay as it made them."""
        initialise(*self.levels, start=start)
        start(self.head)

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The map of every level, the finest first, as in ``VisionModel``."""
        x = rearrange(self.patches(images), "b (gy gx) c -> b gy gx c", gy=self.patches.grid[0])
        return maps_after(self.levels, x, out_indices, as_map=lambda x: x.permute(0, 3, 1, 2))

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or the mean of the normalised tokens where the model has no head."""
        return self.head(self.pooling(self.norm(self.features(images, [-1])[0].permute(0, 2, 3, 1))))

    def resize(self, image_size: Size) -> "NesT":
        """Make the model, in place, expect images of another size: as many blocks, with interpolated positions.

        Raises:
            ValueError: if patches do not tile an image of that size, or if their map cannot be halved for every level.
            TypeError: if the stem is of one size only.
        """
        if patch := getattr(self.patches, "patch", None):  # before anything changes
            _check_tree(pair(image_size), patch, len(self.levels))
        resize_stem(self.patches, image_size)
        _check_tree(self.patches.grid, (1, 1), len(self.levels))
        for level, grid in zip(self.levels, self._grids(len(self.levels)), strict=True):
            cast(Level, level).regrid(grid)
        return self

    def _grids(self, levels: int) -> list[Pair]:
        """Rows and columns of every level's map."""
        rows, columns = self.patches.grid
        return [(rows // 2**i, columns // 2**i) for i in range(levels)]


VARIANTS: dict[str, dict[str, Any]] = {
    # models/nest_net.py of the authors' code; table A1 of the paper prints widths and depths in the reverse order, and
    # other heads, as its authors confirm in their issue 2
    "nest_t": {"dims": (96, 192, 384), "depths": (2, 2, 8), "heads": (3, 6, 12), "drop_path": 0.2},
    "nest_s": {"dims": (96, 192, 384), "depths": (2, 2, 20), "heads": (3, 6, 12), "drop_path": 0.3},
    "nest_b": {"dims": (128, 256, 512), "depths": (2, 2, 20), "heads": (4, 8, 16), "drop_path": 0.5},
}


@pretrainable
def nest(
    variant: str, *, num_classes: int | None = 1000, image_size: Size = 224, channels: int = 3, **overrides: Any
) -> NesT:
    """A NesT by its name, such as ``"nest_t"``: 16, 4 and 1 blocks. Sides are multiples of 16 pixels.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: any of ``dims``, ``depths``, ``heads``, ``patch`` (4), and any other argument of ``NesT``, as
            ``drop_path``, ``attention``, ``aggregation``, ``norm``.

    Raises:
        ValueError: if the variant is unknown, if patches do not tile the image, or if their map cannot be halved for
            every level.
    """
    options = {"patch": 4, **lookup(VARIANTS, variant), **overrides}
    dims, patch = options["dims"], pair(options.pop("patch"))
    _check_tree(pair(image_size), patch, len(dims))
    patches = PatchEmbedding(dims[0], image_size=image_size, patch=patch, channels=channels)
    start(patches.projection)
    return NesT(patches, num_classes=num_classes, **options)


def _check_tree(sides: Pair, unit: Pair, levels: int) -> None:
    """Raise ``ValueError``, with the nearest sizes, for an image whose map cannot be halved between all levels.

    ``unit`` is a patch, for sides in pixels, or 1 x 1, for sides in tokens.
    """
    times = 2 ** (levels - 1)
    steps = (unit[0] * times, unit[1] * times)
    if not any(side % step for side, step in zip(sides, steps, strict=True)):
        return
    below = [max(side // step, 1) * step for side, step in zip(sides, steps, strict=True)]
    above = [-(-side // step) * step for side, step in zip(sides, steps, strict=True)]
    nearest = " and ".join(dict.fromkeys(f"{y} x {x}" for y, x in (below, above)))
    what = "tokens" if unit == (1, 1) else f"pixels, in patches of {unit[0]} x {unit[1]}"
    raise ValueError(
        f"{sides[0]} x {sides[1]} {what}: a tree of {levels} levels has {times} x {times} blocks at its leaves, so "
        f"sides must be multiples of {steps[0]} and {steps[1]}; the nearest sizes that fit: {nearest}"
    )
