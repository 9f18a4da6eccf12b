"""Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, and Swin Transformer V2.

Liu et al. 2021, arXiv 2103.14030, and Liu et al. 2021, arXiv 2111.09883. The idea: attend within windows, shift the
windows in every second block so that neighbours are connected, and merge patches between stages into a pyramid of
maps.

Departures:
    - Pairs that came round the edge get -inf where the authors' code adds -100. In V1 there is no difference to see;
      in V2, whose scores range over more than 200, -100 need not hide a pair.
    - A map that windows do not tile is padded as in the authors' code for detection (``nn.windows.Windows``).
    - Maps may also be cut otherwise, by any ``Cut``: with halos, dilated, or not at all.
    - A map that is no larger than the window along one side has windows of its own size along that side, not shifted
      there; the other side keeps its window and shift. The authors' code for classification then takes the shorter
      side of the map for both sides of the window, and shifts along neither. On square maps there is no difference.
    - V2's position bias is that of the authors' code, not of its equations (``ContinuousPositionBias``).
    - ``features`` are the stages' outputs, without the further norms of the authors' code for detection.
    - The authors published neither code nor weights of V2-H and V2-G. Their extra norm "every 6 layers" is here one
      after every sixth block of a stage.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import AttentionDropout, attention
from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.derived import returns_from_meta
from attention_notes.nn.drop_path import DropPath, depth_rates
from attention_notes.nn.heads import check_heads
from attention_notes.nn.initialise import OwnLayers, Start, initialise, truncated_normal
from attention_notes.nn.mlp import MLP
from attention_notes.nn.norms import unit
from attention_notes.nn.protocols import Cut, Make, Pair, Stem, regrid, resize_stem
from attention_notes.nn.sizes import Size, pair
from attention_notes.nn.variants import given, lookup
from attention_notes.nn.vision import Backbone, Indices, linear_head, maps_after
from attention_notes.nn.windows import ContinuousPositionBias, RelativePositionBias, Windows, four_neighbours
from attention_notes.papers.vit import PatchEmbedding
from attention_notes.weights.pretrained import pretrainable


class InWindows(nn.Module):
    """What attentions within windows have in common: their two maps, their bias, and how maps are cut.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        windows: how maps are cut, and what the queries of a window may look at.
        bias: makes B from ``heads``, ``window`` and ``keys``, the sides of a window and of what it looks at; where
            images change their size, its ``resize(window, keys)`` is called.
        qkv_bias: whether the map to queries, keys and values has a bias.
        attention_dropout: probability of dropping a weight of the attention.
        projection_dropout: probability of dropping what the last map gives.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        windows: Cut,
        bias: Make,
        qkv_bias: bool,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.windows = check_heads(dim, heads), windows
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.output = nn.Linear(dim, dim)
        self.bias: Any = bias(heads, window=windows.window, keys=windows.keys)
        self.attention_dropout = AttentionDropout(attention_dropout)
        self.projection_dropout = nn.Dropout(projection_dropout)

    def initialise(self, start: Start) -> None:
        """Draw both maps and the bias."""
        start(self.qkv, parts=3)
        start(self.output)
        initialise(self.bias, start=start)

    def regrid(self, grid: Pair, *, window: Pair) -> None:
        """Cut maps of another size, or into other windows, and make the bias fit."""
        self.windows.regrid(grid, window=window)
        self.bias.resize(self.windows.window, self.windows.keys)


class WindowAttention(InWindows):
    """Self-attention within windows, which may be shifted: W-MSA and SW-MSA (equation 4).

        Attention(Q, K, V) = SoftMax(QKᵀ / √d + B) V

    Arguments and errors as in ``InWindows``.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        windows: Cut,
        bias: Make = RelativePositionBias,
        qkv_bias: bool = True,
        **dropouts: float,
    ) -> None:
        super().__init__(dim, heads=heads, windows=windows, bias=bias, qkv_bias=qkv_bias, **dropouts)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Let every token look at its window."""
        tokens = self.windows.cut(x)
        q, k, v = rearrange(self.qkv(tokens), "s n (qkv h d) -> qkv s h n d", qkv=3, h=self.heads)
        if (around := self.windows.cut_keys(x, tokens)) is not tokens:
            _, k, v = rearrange(self.qkv(around), "s m (qkv h d) -> qkv s h m d", qkv=3, h=self.heads)
        mask = self.windows.scores(self.bias(), images=x.shape[0])
        mixed = attention(q, k, v, mask=mask, dropout=self.attention_dropout.rate)
        return self.windows.join(self.projection_dropout(self.output(rearrange(mixed, "s h n d -> s n (h d)"))))


class CosineWindowAttention(InWindows):
    """V2: scores are cosines over a learned temperature τ, one for each head, never below 0.01 (V2, equation 2).

        Sim(q_i, k_j) = cos(q_i, k_j) / τ + B_ij

    ``logit_scale`` is log 1/τ. Queries and values have biases, keys have none. Arguments as in
    ``WindowAttention``.
    """

    no_weight_decay = ("logit_scale",)

    def __init__(
        self, dim: int, *, heads: int, windows: Cut, bias: Make = ContinuousPositionBias, **dropouts: float
    ) -> None:
        super().__init__(dim, heads=heads, windows=windows, bias=bias, qkv_bias=False, **dropouts)
        self.query_bias, self.value_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Let every token look at its window."""
        tokens = self.windows.cut(x)
        q, k, v = rearrange(self._projected(tokens), "s n (qkv h d) -> qkv s h n d", qkv=3, h=self.heads)
        if (around := self.windows.cut_keys(x, tokens)) is not tokens:
            _, k, v = rearrange(self._projected(around), "s m (qkv h d) -> qkv s h m d", qkv=3, h=self.heads)
        q = unit(q) * self.logit_scale.clamp(max=math.log(100)).exp()
        mask = self.windows.scores(self.bias(), images=x.shape[0])
        dropout = self.attention_dropout.rate
        mixed = attention(q, unit(k), v, mask=mask, scale=1.0, dropout=dropout)
        return self.windows.join(self.projection_dropout(self.output(rearrange(mixed, "s h n d -> s n (h d)"))))

    def _projected(self, tokens: Float[Tensor, "s n c"]) -> Float[Tensor, "s n 3*c"]:
        """Queries, keys and values side by side."""
        biases = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        projected = self.qkv(tokens)
        return projected + biases.to(projected.dtype)


class PreNorm(nn.Module):
    """V1: x + f(LN(x)), the branch dropped for a sample with probability ``drop_path`` (equation 3)."""

    def __init__(self, dim: int, *, drop_path: float, norm: Make = nn.LayerNorm) -> None:
        super().__init__()
        self.norm, self.drop_path = norm(dim), DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b gy gx c"], branch: nn.Module) -> Float[Tensor, "b gy gx c"]:
        """Normalise the input of the branch."""
        return x + self.drop_path(branch(self.norm(x)))


def silent_norm(dim: int) -> nn.LayerNorm:
    """A layer norm that starts at zero."""
    norm = nn.LayerNorm(dim)
    nn.init.zeros_(norm.weight)
    return norm


class ResPostNorm(nn.Module):
    """V2: x + LN(f(x)): the output of each branch is normalised before it is added (V2, section 3.2).

    The norm starts at zero, as in the authors' code: an untrained block adds nothing. Another ``norm`` starts as it is.
    """

    def __init__(self, dim: int, *, drop_path: float, norm: Make = silent_norm) -> None:
        super().__init__()
        self.norm, self.drop_path = norm(dim), DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b gy gx c"], branch: nn.Module) -> Float[Tensor, "b gy gx c"]:
        """Normalise the output of the branch."""
        return x + self.drop_path(self.norm(branch(x)))


class Block(nn.Module):
    """One layer: attention within windows, then the perceptron, each in its residual (equation 3).

    Args:
        dim: width ``c`` of the tokens.
        heads: heads of the attention.
        windows: how maps are cut.
        drop_path: probability of dropping a branch.
        attention: makes the attention, as ``WindowAttention``, from the width, ``heads``, ``windows``, and those of
            ``attention_dropout`` and ``projection_dropout`` that are above 0.
        residual: makes the residual wrapper, such as ``PreNorm``, from the width, ``drop_path`` and a given ``norm``.
        mlp: makes the perceptron from the width, ``hidden`` and a given ``activation``.
        norm: makes the norms from their width; those of ``residual`` when not given.
        activation: makes the non-linearity of the perceptron; ``nn.GELU`` when not given.
        attention_dropout: probability of dropping a weight of the attention.
        projection_dropout: probability of dropping what the attention gives.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        windows: Cut,
        drop_path: float = 0.0,
        attention: Make = WindowAttention,
        residual: Make = PreNorm,
        mlp: Make = MLP,
        norm: Make | None = None,
        activation: Make | None = None,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dropouts = given(attention_dropout=attention_dropout or None, projection_dropout=projection_dropout or None)
        self.attention = attention(dim, heads=check_heads(dim, heads), windows=windows, **dropouts)
        self.attention_residual = residual(dim, drop_path=drop_path, **given(norm=norm))
        self.mlp = mlp(dim, hidden=4 * dim, **given(activation=activation))
        self.mlp_residual = residual(dim, drop_path=drop_path, **given(norm=norm))

    def initialise(self, start: Start) -> None:
        """Draw the attention and the perceptron."""
        initialise(self.attention, self.mlp, start=start)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Mix the tokens of each window, then change each token by itself."""
        return self.mlp_residual(self.attention_residual(x, self.attention), self.mlp)


class PatchMerging(OwnLayers):
    """V1: four neighbours side by side, normalised, and mapped from 4c to 2c (section 3.1, "Patch merging").

    A map of odd size is padded with a row or column of zeros.
    """

    def __init__(self, dim: int, *, norm: Make = nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b (gy+1)//2 (gx+1)//2 2*c"]:
        """Halve the map, double the width."""
        return self.reduction(self.norm(four_neighbours(x)))


class PostNormMerging(OwnLayers):
    """V2: map first, then normalise: a convolution of 2 x 2 with stride 2, and a norm."""

    def __init__(self, dim: int, *, norm: Make = nn.LayerNorm) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm(2 * dim)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b (gy+1)//2 (gx+1)//2 2*c"]:
        """Halve the map, double the width."""
        return self.norm(self.reduction(four_neighbours(x)))


class Swin(Backbone):
    """Patches, stages of blocks with windows shifted in every second one, and a head (figure 3).

    Stage ``i`` works on a map of 1 / 2^i the grid of patches, rounded up, with tokens 2^i times as wide.

    Args:
        patches: turns images into tokens of width ``patches.dim``, one for each cell of ``patches.grid``.
        depths: blocks of each stage.
        heads: heads of each stage.
        window: rows and columns of a window, or one number for both.
        num_classes: width of the output; ``None`` for no head: the model then returns the mean of its tokens.
        block: makes a block, as ``Block``, from the width, ``heads``, ``windows``, ``drop_path`` and ``options``.
        merging: makes what stands between two stages, from the width of the first and a given ``norm``.
        windows: makes the cut of a block's map from its ``grid``, ``window`` and whether it is ``shifted``.
        norm: makes every norm from its width, also those of blocks and mergings; ``nn.LayerNorm`` when not given.
        drop_path: probability of dropping a branch in the last block; it grows linearly from 0 at the first.
        options: of ``block``; those of ``Block`` are ``attention``, ``residual``, ``mlp``, ``activation``,
            ``attention_dropout`` and ``projection_dropout``.

    Raises:
        ValueError: if there are not as many depths as heads, if a stage's heads do not divide its width, or if
            ``num_classes`` is neither None nor 1 or more.
    """

    def __init__(
        self,
        patches: Stem,
        *,
        depths: Sequence[int],
        heads: Sequence[int],
        window: Size,
        num_classes: int | None,
        block: Make = Block,
        merging: Make = PatchMerging,
        windows: Callable[..., Cut] = Windows,
        norm: Make | None = None,
        drop_path: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads):
            raise ValueError(f"{len(depths)} depths but {len(heads)} numbers of heads: one of each for every stage")
        self.patches, self.window = patches, pair(window)
        own, told = norm or nn.LayerNorm, given(norm=norm)
        self.patch_norm = own(patches.dim)
        self.widths = [patches.dim * 2**i for i in range(len(depths))]
        rates = iter(depth_rates(drop_path, sum(depths)))
        self.stages = nn.ModuleList()
        for i, (dim, grid) in enumerate(zip(self.widths, self.grids, strict=True)):
            stage = nn.Sequential() if i == 0 else nn.Sequential(OrderedDict(merging=merging(dim // 2, **told)))
            cuts = [windows(grid, window=self.window, shifted=j % 2 == 1) for j in range(depths[i])]
            made = {"heads": heads[i], **told, **options}
            blocks = (block(dim, windows=cut, drop_path=next(rates), **made) for cut in cuts)
            stage.add_module("blocks", Blocks(*blocks))
            self.stages.append(stage)
        self.num_features = self.widths[-1]
        self.norm = own(self.num_features)
        self.head = linear_head(self.num_features, num_classes)
        self.initialise(truncated_normal)
        returns_from_meta(self)

    @property
    def grids(self) -> list[Pair]:
        """Rows and columns of every stage's map: those of the patches, halved and rounded up from stage to stage."""
        rows, columns = self.patches.grid
        return [(-(-rows // 2**i), -(-columns // 2**i)) for i in range(len(self.widths))]

    def initialise(self, start: Start) -> None:
        """Draw the linear maps of mergings, blocks and head anew; the stem's stay as it made them."""
        for stage in self.stages:
            *merging, blocks = stage.children()
            initialise(*merging, *blocks.children(), start=start)
        start(self.head)

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The map of every stage, the finest first: ``b c y x``, as heads for detection and segmentation need them.

        Raises:
            ValueError: for images of another size than the model was built for, or if there is no such map.
        """
        tokens, (rows, columns) = self.patches(images), self.patches.grid
        if tokens.shape[1] != rows * columns:
            raise ValueError(f"the stem made {tokens.shape[1]} tokens, but its grid has {rows} x {columns}")
        x = self.patch_norm(tokens).unflatten(1, (rows, columns))
        return maps_after(self.stages, x, out_indices, as_map=lambda x: x.permute(0, 3, 1, 2))

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or the mean of the normalised tokens where the model has no head."""
        return self.head(self.norm(self.features(images, [-1])[0].permute(0, 2, 3, 1)).mean((1, 2)))

    def resize(self, image_size: Size, *, window: Size | None = None) -> "Swin":
        """Make the model, in place, expect images of another size, and with ``window`` attend within other windows.

        V1 interpolates its tables of position biases where a window changes; V2 evaluates its networks at other
        offsets. All other parameters stay the very same tensors. Foreign parts of a stage that are ``OnGrid`` are told.

        Raises:
            ValueError: if patches do not tile an image of that size.
            TypeError: if the stem is of one size only.
        """
        before, window = (self.grids, self.window), self.window if window is None else pair(window)
        resize_stem(self.patches, image_size)
        if (self.grids, window) == before:
            return self
        self.window = window
        for stage, grid in zip(self.stages, self.grids, strict=True):
            regrid(stage, grid, window=window)
        return self


def add_norms(model: Swin, *, every: int) -> Swin:
    """Normalise the stream itself after every so many blocks of a stage, as V2-H and V2-G do."""
    for stage, dim in zip(model.stages, model.widths, strict=True):
        blocks: Any = stage.get_submodule("blocks")
        for after in range(len(blocks) // every * every, 0, -every):
            blocks.insert(after, nn.LayerNorm(dim))
    return model


_V2_BLOCK = partial(Block, attention=CosineWindowAttention, residual=ResPostNorm)
_V2: dict[str, Any] = {"block": _V2_BLOCK, "merging": PostNormMerging}
_T = {"dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "drop_path": 0.2}
_S = {"dim": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24), "drop_path": 0.3}
_B = {"dim": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "drop_path": 0.5}
_L = {"dim": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48), "drop_path": 0.2}
_H = {"dim": 352, "depths": (2, 2, 18, 2), "heads": (11, 22, 44, 88), "drop_path": 0.2}
_G = {"dim": 512, "depths": (2, 2, 42, 4), "heads": (16, 32, 64, 128), "drop_path": 0.2}

VARIANTS: dict[str, dict[str, Any]] = {
    # section 3.3; stochastic depth as in the authors' configurations (none is published of V2-H and V2-G)
    "swin_t": {**_T, "window": 7, "image_size": 224},
    "swin_s": {**_S, "window": 7, "image_size": 224},
    "swin_b": {**_B, "window": 7, "image_size": 224},
    "swin_l": {**_L, "window": 7, "image_size": 224},
    # tables 1(a) and 1(b), tuned at 384 pixels
    "swin_b_384": {**_B, "window": 12, "image_size": 384},
    "swin_l_384": {**_L, "window": 12, "image_size": 384},
    # V2, "Model configurations", and the authors' list of models for windows and sizes
    "swinv2_t": {**_T, **_V2, "window": 8, "image_size": 256},
    "swinv2_s": {**_S, **_V2, "window": 8, "image_size": 256},
    "swinv2_b": {**_B, **_V2, "window": 8, "image_size": 256},
    "swinv2_t_window16": {**_T, **_V2, "window": 16, "image_size": 256},
    "swinv2_s_window16": {**_S, **_V2, "window": 16, "image_size": 256},
    "swinv2_b_window16": {**_B, **_V2, "window": 16, "image_size": 256},
    # trained at 192 pixels; ``resize`` takes L to 256 and 384 with windows of 16 and 24, as the authors did
    "swinv2_l": {**_L, **_V2, "window": 12, "image_size": 192},
    "swinv2_h": {**_H, **_V2, "window": 12, "image_size": 192, "norm_every": 6},
    "swinv2_g": {**_G, **_V2, "window": 12, "image_size": 192, "norm_every": 6},
}


@pretrainable
def swin(
    variant: str, *, num_classes: int | None = 1000, image_size: Size | None = None, channels: int = 3, **overrides: Any
) -> Swin:
    """A Swin Transformer by its name, such as ``"swin_t"`` or ``"swinv2_t"``.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both; the variant's own when not given.
        channels: channels of the image.
        overrides: any of ``dim``, ``depths``, ``heads``, ``window``, ``patch``, ``norm_every``, and any other argument
            of ``Swin``, as ``drop_path``, ``block``, ``merging``, ``windows``, ``norm``.

    Raises:
        ValueError: if the variant is unknown, or if patches do not tile the image.
    """
    options = {"patch": 4, "norm_every": None, **lookup(VARIANTS, variant), **overrides}
    own, every, dim, patch = (options.pop(name) for name in ("image_size", "norm_every", "dim", "patch"))
    size = own if image_size is None else image_size
    patches = PatchEmbedding(dim, image_size=size, patch=patch, channels=channels)
    model = Swin(patches, num_classes=num_classes, **options)
    return model if every is None else add_norms(model, every=every)
