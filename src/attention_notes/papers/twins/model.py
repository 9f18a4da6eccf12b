"""Twins: Revisiting the Design of Spatial Attention in Vision Transformers.

Chu et al. 2021, arXiv 2104.13840. The idea: Twins-PCPVT gives the pyramid of PVT a code of positions that a convolution
makes from the tokens; Twins-SVT lets, in turn, tokens attend within windows and to a few representatives of the whole
map.

Departures:
    - A map that windows do not tile gets zeros at its right and its bottom, which are keys like all others: the
      ``forward_padding`` of the authors' code for segmentation, and timm's. The authors' default there masks them.
    - Images whose sides are no multiples of 32 are refused, where the authors' code drops the last rows.
    - ``features`` are the maps of all stages without a norm, as in the authors' code for detection.
    - No dropout but in and after the attention: the authors' configurations have none at all.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.drop_path import depth_rates
from attention_notes.nn.initialise import Start, initialise
from attention_notes.nn.mlp import MLP
from attention_notes.nn.norms import layer_norm
from attention_notes.nn.protocols import Make, Pair
from attention_notes.nn.sizes import Size, pair
from attention_notes.nn.variants import given, lookup
from attention_notes.nn.windows import cut_windows, join_windows
from attention_notes.papers.cpvt import PositionEncodingGenerator
from attention_notes.papers.pvt import (
    Block,
    PatchEmbedding,
    PyramidVisionTransformer,
    SpatialReductionAttention,
    Stage,
    StridedReduction,
)
from attention_notes.papers.pvt import start_v2 as start
from attention_notes.papers.vit import MeanPooling
from attention_notes.papers.vit.short import ShortAttention
from attention_notes.weights.pretrained import pretrainable


class LocallyGroupedAttention(nn.Module):
    """LSA: each sub-window of k_1 x k_2 tokens attends to itself (section 3.2, and the first line of equation 1).

        LSA(z_ij) = MSA(z_ij),    i = 1 ... m,  j = 1 ... n,    m = H / k_1,  n = W / k_2

    Its products cost O(k_1 k_2 H W d) where those of all pairs cost O(H^2 W^2 d).

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        window: k_1 and k_2, or one number for both.
        attention_dropout: probability of dropping a weight of the attention.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, window: Size, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.window = pair(window)
        self.attend = ShortAttention(dim, heads=heads, attention_dropout=attention_dropout)

    def initialise(self, start: Start) -> None:
        """Draw the maps of the attention."""
        initialise(self.attend, start=start)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Let every token look at its window."""
        gy, gx = x.shape[1:3]
        down, right = self.beyond(gy, gx)
        mixed = self.attend(self.cut(x))
        return join_windows(mixed, self.window, grid=(gy + down, gx + right))[:, :gy, :gx]

    def cut(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "s n c"]:
        """The ``n = k_1 k_2`` tokens of each of the ``s`` windows, after zeros where windows reach beyond the map."""
        down, right = self.beyond(*x.shape[1:3])
        return cut_windows(F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x, self.window)

    def beyond(self, rows: int, columns: int) -> Pair:
        """Rows and columns of zeros that windows need beyond a map."""
        return -rows % self.window[0], -columns % self.window[1]


def lsa(dim: int, *, heads: int, window: Size, ratio: int, **dropouts: float) -> LocallyGroupedAttention:
    """L of the paper's table 5: attention within windows; there is nothing to sub-sample."""
    return LocallyGroupedAttention(dim, heads=heads, window=window, **dropouts)


def gsa(dim: int, *, heads: int, window: Size, ratio: int, **dropouts: float) -> SpatialReductionAttention:
    """G of table 5, global sub-sampled attention: that of PVT, whose keys are one representative of R x R tokens.

    Its products cost O(H^2 W^2 d / R^2). The sub-sampling is a strided convolution, the best of table 6.
    """
    return SpatialReductionAttention(dim, heads=heads, reduction=StridedReduction(dim, ratio=ratio), **dropouts)


class EncodedBlock(Block):
    """The first block of a stage, whose tokens then get the code of their places (section 3.1). As ``Block``, and:

    Args:
        positions: module that adds the code to a map, such as ``PositionEncodingGenerator``.
    """

    def __init__(self, dim: int, *, positions: nn.Module, **options: Any) -> None:
        super().__init__(dim, **options)
        self.positions = positions

    def initialise(self, start: Start) -> None:
        """Draw the block and the code."""
        super().initialise(start)
        initialise(self.positions, start=start)

    def forward(self, z: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Mix the tokens, change each by itself, and tell places apart."""
        return self.positions(super().forward(z))


class Patches(PatchEmbedding):
    """Patches side by side, and a norm, as in PVT: 4 x 4 pixels in the first stage, 2 x 2 tokens in the others.

    Raises:
        ValueError: in ``forward``, if patches leave rows or columns of the map out.
    """

    def __init__(self, channels: int, *, dim: int, stride: int) -> None:
        super().__init__(channels, dim=dim, stride=stride, kernel=stride)

    def check(self, rows: int, columns: int) -> None:
        """Raise ``ValueError`` for a map that patches do not cover."""
        stride = self.projection.stride[0]
        if rows % stride or columns % stride:
            raise ValueError(
                f"a map of {rows} x {columns} does not cut into {stride} x {stride}; Twins needs images whose sides "
                "are multiples of 32 pixels"
            )


class MeanOfNorm(MeanPooling):
    """The mean of the last map after a norm, in place of a class token (section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.norm = layer_norm(dim)

    def forward(self, z: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b c"]:
        """Normalise, then average over the tokens."""
        return super().forward(self.norm(z))


class Twins(PyramidVisionTransformer):
    """Four stages as in PVT, with the parts above: a class of its own, since others name its tensors otherwise."""


_PYRAMID = {"ratios": (8, 4, 2, 1), "windows": (7, 7, 7, 7), "positions": PositionEncodingGenerator}
_PCPVT = {
    **_PYRAMID,
    "attentions": ((gsa,),) * 4,
    "dims": (64, 128, 320, 512),
    "heads": (1, 2, 5, 8),
    "expansions": (8, 8, 4, 4),
}
_SVT = {**_PYRAMID, "attentions": ((lsa, gsa),) * 4, "expansions": (4, 4, 4, 4)}

VARIANTS: dict[str, dict[str, Any]] = {
    # table 9, but for the second stage of small and base: printed as 3 blocks, it has 4 in the authors' code, as PVT's;
    # stochastic depth as in section 4.1
    "twins_pcpvt_small": {**_PCPVT, "depths": (3, 4, 6, 3), "drop_path": 0.2},
    "twins_pcpvt_base": {**_PCPVT, "depths": (3, 4, 18, 3), "drop_path": 0.3},
    "twins_pcpvt_large": {**_PCPVT, "depths": (3, 8, 27, 3), "drop_path": 0.5},
    # table 10, but for the last stage: printed as GSA alone, it begins with LSA in the authors' code
    "twins_svt_small": {
        **_SVT,
        "dims": (64, 128, 256, 512),
        "depths": (2, 2, 10, 4),
        "heads": (2, 4, 8, 16),
        "drop_path": 0.2,
    },
    "twins_svt_base": {
        **_SVT,
        "dims": (96, 192, 384, 768),
        "depths": (2, 2, 18, 2),
        "heads": (3, 6, 12, 24),
        "drop_path": 0.3,
    },
    "twins_svt_large": {
        **_SVT,
        "dims": (128, 256, 512, 1024),
        "depths": (2, 2, 18, 2),
        "heads": (4, 8, 16, 32),
        "drop_path": 0.5,
    },
}


@pretrainable
def twins(variant: str, *, num_classes: int | None = 1000, channels: int = 3, **overrides: Any) -> Twins:
    """A Twins by its name, such as ``"twins_pcpvt_small"`` or ``"twins_svt_small"``. It takes multiples of 32 pixels.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        channels: channels of the image.
        overrides: any of ``dims``, ``depths``, ``heads``, ``ratios``, ``windows``, ``expansions`` and ``attentions``,
            one entry for each stage, where ``attentions`` are those of its blocks in turn, each made as ``lsa`` and
            ``gsa`` are; ``positions``, what makes the code of positions from the width; ``drop_path``, the rate of
            stochastic depth at the last block, growing linearly from the first; and ``attention_dropout`` and
            ``projection_dropout``, of the weights of an attention and of what it gives.

    Raises:
        ValueError: if the variant is unknown, if the sizes have different numbers of entries, or if ``num_classes`` is
            neither None nor 1 or more.
        TypeError: if an override is unknown.
    """
    row = {**lookup(VARIANTS, variant), "attention_dropout": 0.0, "projection_dropout": 0.0}
    if unknown := overrides.keys() - row.keys():
        raise TypeError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    options = {**row, **overrides}
    dim = options["dims"][-1]
    model = Twins(_stages(channels, **options), pooling=MeanOfNorm(dim), dim=dim, num_classes=num_classes)
    model.initialise(start)
    return model


def _stages(
    channels: int,
    *,
    positions: Make,
    drop_path: float,
    attention_dropout: float,
    projection_dropout: float,
    **sizes: tuple[Any, ...],
) -> Iterator[Stage]:
    """The stages one after the other; the first shrinks the image by 4, each of the others its map by 2."""
    if len(set(map(len, sizes.values()))) > 1:
        raise ValueError(f"every stage needs one entry of each, but the sizes are {sizes}")
    rates = iter(depth_rates(drop_path, sum(sizes["depths"])))
    told = given(attention_dropout=attention_dropout or None)
    for i, dim in enumerate(sizes["dims"]):
        depth, heads, ratio, window, expansion = (
            sizes[name][i] for name in ("depths", "heads", "ratios", "windows", "expansions")
        )
        in_turn = cycle(sizes["attentions"][i])
        blocks = []
        for j, rate in enumerate(islice(rates, depth)):
            attention = next(in_turn)(dim, heads=heads, window=window, ratio=ratio, **told)
            make: Callable[..., Block] = Block if j else partial(EncodedBlock, positions=positions(dim))
            mlp = MLP(dim, hidden=expansion * dim)
            blocks.append(make(dim, attention=attention, mlp=mlp, dropout=projection_dropout, drop_path=rate))
        patches = Patches(channels, dim=dim, stride=2 if i else 4)
        yield Stage(patches, positions=nn.Identity(), blocks=blocks, norm=nn.Identity())
        channels = dim
