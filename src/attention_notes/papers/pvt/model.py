"""Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions.

Wang et al. 2021, arXiv 2102.12122; and its second version, PVT v2: Improved Baselines with Pyramid Vision Transformer,
Wang et al. 2021, arXiv 2106.13797. The idea: four Transformers in a row, each on a map of half the size of the one
before, whose queries are all tokens of a fine map and whose keys are few tokens of a reduced one.

A model is made of the parts of a ``Design``; those of the papers are ``V1``, ``V2`` and ``V2_LINEAR``.

Departures:
    - Linear layers over disjoint patches are strided convolutions, as in the authors' code: the same map.
    - Version 1 refuses images whose sides are no multiples of 32, where the authors' code drops the last rows.
    - Positions and feature maps for dense prediction follow the authors' code: positions are interpolated
      bilinearly, and ``features`` runs version 1 without its class token and without its last norm.
    - No dropout but in and after the attention: the authors' configurations have none at all. Norms after convolutions
      have an epsilon of 1e-5, the others 1e-6, as in the authors' code and timm; transformers has 1e-6 everywhere.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.nn.block import PreNormBlock
from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.drop_path import depth_rates
from attention_notes.nn.initialise import OwnLayers, Start, initialise, truncated_normal, zero_bias
from attention_notes.nn.mlp import MLP
from attention_notes.nn.norms import layer_norm
from attention_notes.nn.protocols import Make, Pooling
from attention_notes.nn.sizes import Size, check_channels, check_images, pair
from attention_notes.nn.variants import given, lookup
from attention_notes.nn.vision import Backbone, Indices, linear_head, maps_after
from attention_notes.papers.vit import MeanPooling
from attention_notes.weights.pretrained import pretrainable


class PatchEmbedding(OwnLayers):
    """Make a smaller map: a linear map of every window of the larger one, and a norm (v1 section 3.2, v2 section 3.3).

    Windows of ``kernel = stride`` lie side by side: patches. Larger ones overlap; around the map is zero.

    Args:
        channels: channels that come in.
        dim: width ``c`` of the tokens.
        stride: by how much the map shrinks.
        kernel: side of a window.
        padding: rows and columns of zeros on each side.
        norm: makes the norm from the width.

    Raises:
        ValueError: in ``forward``, if windows without padding leave rows or columns of the map out, or if it has other
            channels or axes.
    """

    def __init__(
        self, channels: int, *, dim: int, stride: int, kernel: int, padding: int = 0, norm: Make = nn.LayerNorm
    ) -> None:
        super().__init__()
        self.channels = check_channels(channels)
        self.projection = nn.Conv2d(channels, dim, kernel, stride=stride, padding=padding)
        self.norm = norm(dim)

    def forward(self, x: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b gy gx c"]:
        """One token for each window."""
        check_images(x, self.channels)
        self.check(x.shape[2], x.shape[3])
        return self.norm(rearrange(self.projection(x), "b c gy gx -> b gy gx c"))

    def check(self, rows: int, columns: int) -> None:
        """Raise ``ValueError`` for a map that windows without padding do not cover."""
        stride = self.projection.stride[0]
        if self.projection.kernel_size[0] == stride and (rows % stride or columns % stride):
            raise ValueError(
                f"a map of {rows} x {columns} does not cut into {stride} x {stride}; PVT v1 needs images whose sides "
                "are multiples of 32 pixels"
            )


def cut(channels: int, *, dim: int, stride: int, norm: Make = nn.LayerNorm) -> PatchEmbedding:
    """Patches side by side, as in ViT (v1 section 3.2)."""
    return PatchEmbedding(channels, dim=dim, stride=stride, norm=norm, kernel=stride)


def overlapping(channels: int, *, dim: int, stride: int, norm: Make = nn.LayerNorm) -> PatchEmbedding:
    """Windows of side 2S - 1 at a stride of S, with S - 1 zeros around the map (v2 section 3.3)."""
    return PatchEmbedding(channels, dim=dim, stride=stride, norm=norm, kernel=2 * stride - 1, padding=stride - 1)


class StridedReduction(OwnLayers):
    """The keys' and values' map, R times smaller in both directions (v1 equation 3).

        SR(x) = Norm(Reshape(x, R) W^S)

    Reshape puts the R^2 tokens of a window side by side, W^S is R^2 c x c: a convolution of kernel and stride R.
    Rows and columns beyond the last whole window are not read. With R = 1 the tokens stay as they are.

    Raises:
        ValueError: in ``forward``, if the map is smaller than a window.
    """

    def __init__(self, dim: int, *, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.convolution = nn.Conv2d(dim, dim, ratio, stride=ratio) if ratio > 1 else nn.Identity()
        self.norm = nn.LayerNorm(dim) if ratio > 1 else nn.Identity()

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b m c"]:
        """``m = (gy / R) (gx / R)`` tokens."""
        if min(x.shape[1:3]) < self.ratio:
            raise ValueError(
                f"a map of {x.shape[1]} x {x.shape[2]} tokens is smaller than a window of R={self.ratio}: "
                "give it larger images"
            )
        windows = self.convolution(rearrange(x, "b gy gx c -> b c gy gx"))
        return self.norm(rearrange(windows, "b c gy gx -> b (gy gx) c"))


class PooledReduction(OwnLayers):
    """A map of P x P tokens, whatever the size of the image: the linear attention of v2 (section 3.2).

    GELU(Norm(W AvgPool(x))). The pooling makes ``ratio`` meaningless; it is there to be called like the other.
    """

    def __init__(self, dim: int, *, ratio: int = 1, size: int = 7) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.convolution = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b m c"]:
        """``m = P^2`` tokens."""
        pooled = self.convolution(self.pool(rearrange(x, "b gy gx c -> b c gy gx")))
        return F.gelu(self.norm(rearrange(pooled, "b c gy gx -> b (gy gx) c")))


class SpatialReductionAttention(nn.Module):
    """Queries are all tokens of a map, keys and values the few tokens of its reduction (v1 equations 1 and 2).

        SRA(Q, K, V) = Concat(head_0, ..., head_N) W^O
        head_j       = Attention(Q W_j^Q, SR(K) W_j^K, SR(V) W_j^V)

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        reduction: module that makes the few tokens from the map.
        attention_dropout: probability of dropping a weight of the attention.
    """

    def __init__(self, dim: int, *, heads: int, reduction: nn.Module, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.reduction = reduction
        self.attend = MultiHeadAttention(dim, heads=heads, attention_dropout=attention_dropout)

    def initialise(self, start: Start) -> None:
        """Ask both parts."""
        initialise(self.reduction, self.attend, start=start)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Let the map look at its reduction."""
        gy, row = x.shape[1], _row(x)
        return _map(self.attend(row, self.reduction(_map(row, gy))), gy)


class ConvFeedForward(OwnLayers):
    """The MLP of v2: between its two layers each hidden channel looks at its 3 x 3 neighbours (section 3.4).

    W_2 GELU(DWConv(gate(W_1 x))). The zeros around the map tell a token how far the border is.

    Args:
        dim: width ``c`` of the tokens, in and out.
        hidden: width between the two layers.
        gate: makes the module before the convolution; the authors' linear variant has a ReLU there.
    """

    def __init__(self, dim: int, *, hidden: int, gate: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.gate = gate()
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.contract = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Lift each token, let it see its neighbours, bend it, and bring it back to its width."""
        lifted = self.depthwise(rearrange(self.gate(self.expand(x)), "b gy gx c -> b c gy gx"))
        return self.contract(F.gelu(rearrange(lifted, "b c gy gx -> b gy gx c")))


class Block(PreNormBlock):
    """A layer on a map, whose tokens stand in a row except where the attention and the perceptron need the map.

    The numbers are those of ``PreNormBlock``. A compiler that meets a convolution takes the second axis of every map
    for channels and lays the maps out for that; rows it leaves as they are.
    """

    def forward(self, z: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Mix the tokens, then change each by itself."""
        gy, row = z.shape[1], _row(z)
        row = (
            self.drop_path(self.attention_scale(self.dropout(_on_map(self.attention, self.attention_norm(row), gy))))
            + row
        )
        return _map(self.drop_path(self.mlp_scale(_on_map(self.mlp, self.mlp_norm(row), gy))) + row, gy)


class LearnedPositions(nn.Module):
    """A learned table, one row for each place of the map, added to the tokens (v1 section 3.1).

    On a map of another size the table is interpolated, bilinearly, in two dimensions (v1 section 4.2).
    """

    no_weight_decay = ("table",)

    def __init__(self, dim: int, *, grid: tuple[int, int]) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, *grid, dim), std=0.02))

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Add what belongs to each place."""
        return x + self._on(x.shape[1:3])

    def resize(self, grid: Size) -> None:
        """Interpolate the table for good."""
        if pair(grid) != self.table.shape[1:3]:
            self.table = nn.Parameter(self._on(pair(grid)).detach(), requires_grad=self.table.requires_grad)

    def _on(self, grid: tuple[int, ...]) -> Tensor:
        if grid == self.table.shape[1:3]:
            return self.table
        picture = F.interpolate(rearrange(self.table, "1 gy gx c -> 1 c gy gx"), size=grid, mode="bilinear")
        return rearrange(picture, "1 c gy gx -> 1 gy gx c")


class ClassToken(nn.Module):
    """A learned token with a position of its own that joins the tokens of the last stage (v1 section 4.1)."""

    extra = 1
    no_weight_decay = ("token", "position")

    def __init__(self, dim: int, *, norm: Make = layer_norm) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, 1, dim), std=0.02))
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, 1, dim), std=0.02))
        self.norm = norm(dim)

    def prepend(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b 1 n c"]:
        """The token and the map in one row: nothing in the last stage of v1 looks at rows and columns."""
        row = rearrange(x, "b gy gx c -> b 1 (gy gx) c")
        return torch.cat([(self.token + self.position).expand(x.shape[0], -1, -1, -1), row], dim=2)

    def forward(self, z: Float[Tensor, "b 1 n c"]) -> Float[Tensor, "b c"]:
        """Read the token."""
        return self.norm(z[:, 0, 0])


class Stage(nn.Module):
    """A map to a smaller, wider one: new tokens, their positions, and a Transformer on them (v1 section 3.2)."""

    def __init__(
        self, patches: nn.Module, *, positions: nn.Module, blocks: Iterable[nn.Module], norm: nn.Module
    ) -> None:
        super().__init__()
        self.patches = patches
        self.positions = positions
        self.blocks = Blocks(*blocks)
        self.norm = norm

    def initialise(self, start: Start) -> None:
        """Ask all parts."""
        initialise(self.patches, self.positions, *self.blocks, self.norm, start=start)

    def embed(self, x: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b gy gx c"]:
        """The tokens that enter the blocks."""
        return self.positions(self.patches(x))

    def forward(self, x: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b c gy gx"]:
        """From map to map."""
        return rearrange(self.norm(self.blocks(self.embed(x))), "b gy gx c -> b c gy gx")


class PyramidVisionTransformer(Backbone):
    """Four stages, and a head on what the pooling reads from the last.

    Args:
        stages: from the finest map to the coarsest, each of any parts.
        pooling: what stands for the image, and what it puts before the tokens of the last stage, ``b gy gx c``.
        dim: width of the last stage.
        num_classes: width of the output; ``None`` for no head.

    Raises:
        ValueError: if ``num_classes`` is neither None nor 1 or more.
    """

    def __init__(self, stages: Iterable[Stage], *, pooling: Pooling, dim: int, num_classes: int | None) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.pooling = pooling
        self.num_features = dim
        self.head = linear_head(dim, num_classes)

    def initialise(self, start: Start) -> None:
        """Ask the stages and the pooling, and draw the head."""
        initialise(*self.stages, cast(nn.Module, self.pooling), start=start)
        start(self.head)

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps ``b c y x`` of all stages, at strides 4, 8, 16 and 32: what a dense task is given."""
        return maps_after(self.stages, images, out_indices)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or what stands for the image where the model has no head."""
        x, last = images, cast(Stage, self.stages[-1])
        for stage in self.stages[:-1]:
            x = stage(x)
        return self.head(self.pooling(last.norm(last.blocks(self.pooling.prepend(last.embed(x))))))

    def resize(self, image_size: Size) -> "PyramidVisionTransformer":
        """Interpolate the tables of positions for good, where ``forward`` does it in each call; in place.

        Raises:
            ValueError: if an image of that size cannot be cut into patches.
        """
        size, grids = pair(image_size), _grids(pair(image_size), len(self.stages))
        for stage, before in zip(self.stages, (size, *grids), strict=False):
            if isinstance(stage.patches, PatchEmbedding):
                stage.patches.check(*before)
        for stage, grid in zip(self.stages, grids, strict=True):
            if isinstance(stage.positions, LearnedPositions):
                stage.positions.resize(grid)
        return self


start_v1 = truncated_normal  # convolutions as PyTorch makes them


def start_v2(layer: nn.Module, *, parts: int = 1) -> None:
    """As ``start_v1``, and convolutions with variance 2 / (kernel^2 outputs / groups): how v2 starts."""
    start_v1(layer, parts=parts)
    if isinstance(layer, nn.Conv2d):
        fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
        nn.init.normal_(layer.weight, std=(2 / fan_out) ** 0.5)
        zero_bias(layer)


@dataclass(frozen=True)
class Design:
    """The parts of a version, each as what makes it, by default as in v1; to vary a version is to replace a part.

    ``patches(channels, dim=, stride=)``, ``positions(dim, grid=)``, ``reduction(dim, ratio=)``, ``mlp(dim, hidden=)``,
    ``norm(dim)`` after each stage, ``block_norm(dim)`` in its blocks, ``pooling(dim)``. ``start`` draws the first
    weights of all parts that have ``initialise``. Two more stand, where they are given, in the place of what is
    made of the others: ``attention(dim, heads=, ratio=)`` and a whole
    ``block(dim, heads=, hidden=, ratio=, drop_path=)``. An attention is told ``attention_dropout`` where it is above 0,
    a block ``projection_dropout`` as well.
    """

    patches: Make = cut
    positions: Make = LearnedPositions
    reduction: Make = StridedReduction
    mlp: Make = MLP
    norm: Make = nn.Identity
    block_norm: Make = layer_norm
    pooling: Callable[[int], Pooling] = ClassToken
    start: Start = start_v1
    attention: Make | None = None
    block: Make | None = None

    def layer(
        self,
        dim: int,
        *,
        heads: int,
        hidden: int,
        ratio: int,
        drop_path: float,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
    ) -> nn.Module:
        """One block of a stage."""
        told = given(attention_dropout=attention_dropout or None)
        if self.block:
            told |= given(projection_dropout=projection_dropout or None)
            return self.block(dim, heads=heads, hidden=hidden, ratio=ratio, drop_path=drop_path, **told)
        if self.attention:
            attention = self.attention(dim, heads=heads, ratio=ratio, **told)
        else:
            reduction = self.reduction(dim, ratio=ratio)
            attention = SpatialReductionAttention(dim, heads=heads, reduction=reduction, **told)
        mlp = self.mlp(dim, hidden=hidden)
        dropouts = {"dropout": projection_dropout, "drop_path": drop_path}
        return Block(dim, attention=attention, mlp=mlp, norm=self.block_norm, **dropouts)


V1 = Design()
# no table of positions: the zeros around the map tell places apart
V2 = Design(
    patches=overlapping,
    positions=nn.Identity,
    mlp=ConvFeedForward,
    norm=layer_norm,
    pooling=MeanPooling,
    start=start_v2,
)
V2_LINEAR = replace(V2, reduction=PooledReduction, mlp=partial(ConvFeedForward, gate=nn.ReLU))

_WIDE = {"dims": (64, 128, 320, 512), "heads": (1, 2, 5, 8), "ratios": (8, 4, 2, 1), "expansions": (8, 8, 4, 4)}

VARIANTS: dict[str, dict[str, Any]] = {
    # v1, table 1, but for the second stage of small and medium: printed as 3 layers, it has 4 in the authors' code,
    # in their weights, and in the parameters of table 2; so has that of b2, b2_li and b3 in table 1 of v2; stochastic
    # depth as in the authors' configurations
    "pvt_tiny": {**_WIDE, "design": V1, "depths": (2, 2, 2, 2), "drop_path": 0.1},
    "pvt_small": {**_WIDE, "design": V1, "depths": (3, 4, 6, 3), "drop_path": 0.1},
    "pvt_medium": {**_WIDE, "design": V1, "depths": (3, 4, 18, 3), "drop_path": 0.3},
    "pvt_large": {**_WIDE, "design": V1, "depths": (3, 8, 27, 3), "drop_path": 0.3},
    # v2, table 1
    "pvt_v2_b0": {**_WIDE, "design": V2, "depths": (2, 2, 2, 2), "dims": (32, 64, 160, 256), "drop_path": 0.1},
    "pvt_v2_b1": {**_WIDE, "design": V2, "depths": (2, 2, 2, 2), "drop_path": 0.1},
    "pvt_v2_b2": {**_WIDE, "design": V2, "depths": (3, 4, 6, 3), "drop_path": 0.1},
    "pvt_v2_b2_li": {**_WIDE, "design": V2_LINEAR, "depths": (3, 4, 6, 3), "drop_path": 0.1},
    "pvt_v2_b3": {**_WIDE, "design": V2, "depths": (3, 4, 18, 3), "drop_path": 0.3},
    "pvt_v2_b4": {**_WIDE, "design": V2, "depths": (3, 8, 27, 3), "drop_path": 0.3},
    "pvt_v2_b5": {**_WIDE, "design": V2, "depths": (3, 6, 40, 3), "expansions": (4, 4, 4, 4), "drop_path": 0.3},
}


@pretrainable
def pvt(
    variant: str, *, num_classes: int | None = 1000, image_size: Size = 224, channels: int = 3, **overrides: Any
) -> PyramidVisionTransformer:
    """A Pyramid Vision Transformer by its name, such as ``"pvt_small"`` or ``"pvt_v2_b2"``.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: for which the table of positions of v1 is made; both versions take other sizes, v1 multiples of 32.
        channels: channels of the image.
        overrides: any of ``design``, ``dims``, ``depths``, ``heads``, ``ratios`` and ``expansions``, one entry for each
            stage; ``drop_path``, the rate of stochastic depth at the last block, growing linearly from the first; and
            ``attention_dropout`` and ``projection_dropout``, of the weights of an attention and of what it gives.

    Raises:
        ValueError: if the variant is unknown, if the sizes have different numbers of entries, or if ``num_classes`` is
            neither None nor 1 or more.
        TypeError: if an override is unknown.
    """
    row = {**lookup(VARIANTS, variant), "attention_dropout": 0.0, "projection_dropout": 0.0}
    options = {**row, **overrides}
    if unknown := overrides.keys() - row.keys():
        raise TypeError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    design, dim = options["design"], options["dims"][-1]
    stages = _stages(channels, image=pair(image_size), **options)
    model = PyramidVisionTransformer(stages, pooling=design.pooling(dim), dim=dim, num_classes=num_classes)
    model.initialise(design.start)
    return model


def _row(tokens: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b n c"]:
    return rearrange(tokens, "b gy gx c -> b (gy gx) c")


def _map(row: Float[Tensor, "b n c"], gy: int) -> Float[Tensor, "b gy gx c"]:
    return rearrange(row, "b (gy gx) c -> b gy gx c", gy=gy)


def _on_map(part: nn.Module, row: Float[Tensor, "b n c"], gy: int) -> Float[Tensor, "b n c"]:
    return _row(part(_map(row, gy)))


def _grids(image: tuple[int, int], stages: int) -> list[tuple[int, int]]:
    """Rows and columns of the map of each stage."""
    return [(max(image[0] // (4 << i), 1), max(image[1] // (4 << i), 1)) for i in range(stages)]


def _stages(
    channels: int,
    *,
    design: Design,
    image: tuple[int, int],
    drop_path: float,
    attention_dropout: float,
    projection_dropout: float,
    **sizes: tuple[int, ...],
) -> Iterator[Stage]:
    """The stages one after the other; the first shrinks the image by 4, each of the others its map by 2."""
    if len(set(map(len, sizes.values()))) > 1:
        raise ValueError(f"every stage needs one entry of each, but the sizes are {sizes}")
    rates = iter(depth_rates(drop_path, sum(sizes["depths"])))
    dropouts = {"attention_dropout": attention_dropout, "projection_dropout": projection_dropout}
    for i, (dim, grid) in enumerate(zip(sizes["dims"], _grids(image, len(sizes["dims"])), strict=True)):
        stride = 2 if i else 4
        depth, heads, ratio, expansion = (sizes[name][i] for name in ("depths", "heads", "ratios", "expansions"))
        each: dict[str, Any] = {"heads": heads, "hidden": expansion * dim, "ratio": ratio, **dropouts}
        blocks = [design.layer(dim, **each, drop_path=rate) for rate in islice(rates, depth)]
        patches, positions = design.patches(channels, dim=dim, stride=stride), design.positions(dim, grid=grid)
        yield Stage(patches, positions=positions, blocks=blocks, norm=design.norm(dim))
        channels = dim
