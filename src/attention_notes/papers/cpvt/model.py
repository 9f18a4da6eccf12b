"""Conditional Positional Encodings for Vision Transformers.

Chu et al. 2021, arXiv 2102.10882. The idea: a small convolution makes the code of a place from the tokens around it, so
that a code of positions follows the image to any size.

Departures:
    - One depthwise convolution, the form that Twins calls the simplest; the stride of the authors' code, which no
      published model changes from 1, is left out.
    - The authors published the generator with the code of Twins, and no code of CPVT itself. Here the generator starts
      as there, and all else starts as in ``deit``.
    - Images whose sides are no multiples of the patch are refused, where the authors' code for Twins drops pixels.
    - A class token gets no code, as in the paper, and no position of its own either.
"""

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.initialise import OwnLayers, Start, initialise, truncated_normal, zero_bias
from attention_notes.nn.protocols import Make, Pair, Stem, resize_stem
from attention_notes.nn.sizes import Size, check_images
from attention_notes.nn.variants import lookup
from attention_notes.nn.vision import Indices, maps_after
from attention_notes.papers.vit import VARIANTS as SIZES
from attention_notes.papers.vit import Block, ClassToken, MeanPooling, PatchEmbedding, VisionTransformer
from attention_notes.weights.pretrained import pretrainable


class PositionEncodingGenerator(OwnLayers):
    """PEG: each channel of a map plus its own convolution, which reads the neighbours of a token.

        PEG(x) = x + DWConv(x)

    Around the map is zero, which tells a token near the border how far the border is.

    Args:
        dim: width ``c`` of the tokens.
        kernel: side of the window that a token's code is made from, an odd number.
        padding_mode: what is around the map, as in ``nn.Conv2d``; ``"circular"`` makes a map without a border.

    Raises:
        ValueError: if ``kernel`` is even.
    """

    no_weight_decay = ("convolution",)

    def __init__(self, dim: int, *, kernel: int = 3, padding_mode: Literal["zeros", "circular"] = "zeros") -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel}: give an odd number, so that the window has a token in its middle")
        self.convolution = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, padding_mode=padding_mode)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Add to each token the code of its place."""
        codes = self.convolution(rearrange(x, "b gy gx c -> b c gy gx"))
        return x + rearrange(codes, "b c gy gx -> b gy gx c")


class Patches(PatchEmbedding):
    """The patches of ``vit``, of images of any size that they tile.

    Args:
        dim: width ``c`` of a token.
        patch: height and width of a patch in pixels, or one number for both.
        channels: channels of the image.
    """

    def __init__(self, dim: int, *, patch: Size, channels: int = 3) -> None:
        super().__init__(dim, image_size=patch, patch=patch, channels=channels)

    def grid_of(self, images: Float[Tensor, "b ch y x"]) -> Pair:
        """Rows and columns of patches of these images. Raises ``ValueError`` for sides that patches do not tile."""
        check_images(images, self.channels)
        (y, x), (py, px) = images.shape[2:], self.patch
        if y % py or x % px:
            raise ValueError(
                f"images of {y} x {x} cannot be cut into patches of {py} x {px}: give sides that are multiples of them"
            )
        return y // py, x // px

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """Cut, flatten, project."""
        gy, gx = self.grid_of(images)
        return self.projection(rearrange(images, "b ch (gy py) (gx px) -> b (gy gx) (ch py px)", gy=gy, gx=gx))


class EncodedBlock(Block):
    """An encoder block whose patches then get the code of their places (figure 1b). As ``Block``, and:

    Args:
        positions: makes what adds the code to a map, from the width, as ``PositionEncodingGenerator``.
    """

    def __init__(self, dim: int, *, positions: Make = PositionEncodingGenerator, **options: Any) -> None:
        super().__init__(dim, **options)
        self.positions = positions(dim)

    def initialise(self, start: Start) -> None:
        """Draw the block and the code."""
        super().initialise(start)
        initialise(self.positions, start=start)

    def forward(self, z: Float[Tensor, "b n c"], *grid: int) -> Float[Tensor, "b n c"]:
        """Run the block, then tell apart the patches, which are the last ``gy gx`` tokens.

        Args:
            z: the tokens.
            grid: rows ``gy`` and columns ``gx`` of the patches.
        """
        z = super().forward(z)
        extra = z.shape[1] - math.prod(grid)
        patches = self.positions(z[:, extra:].unflatten(1, grid)).flatten(1, 2)
        return torch.cat([z[:, :extra], patches], dim=1)


class Encoder(Blocks):
    """Blocks one after the other, of which each ``EncodedBlock`` is told the grid of the patches."""

    def forward(self, x: Tensor, *grid: int) -> Tensor:
        """Run all blocks."""
        for block in self:
            x = self.run(block, x, *grid)
        return x

    def run(self, block: nn.Module, x: Tensor, *grid: int) -> Tensor:
        """Run one of the blocks; an ``EncodedBlock`` is told the grid."""
        return super().run(block, x, *(grid if isinstance(block, EncodedBlock) else ()))


class CPVT(VisionTransformer):
    """A Vision Transformer without a table of positions, for images of any size that its patches tile.

        z_0 = [x_class; x_p^1 E; ...; x_p^N E]
        z_l = Block_l(z_{l-1}),  and behind the class token PEG(z_l) for the layers in ``after``
        y   = LN(z_L)^0, or the mean of LN(z_L)

    Args:
        patches: turns images into tokens, as ``Patches``; a ``Stem`` of one size makes it a model of one size.
        depth: number of layers L.
        after: the layers that a generator follows, counted from 0.
        positions: makes a generator from the width.
        block: makes a layer without a generator, as in ``VisionTransformer``.
        encoded: makes a layer with one: as ``block``, from ``positions`` too; an ``EncodedBlock``.
        options: of ``VisionTransformer``.

    Raises:
        ValueError: if there is no such layer, and as ``VisionTransformer``.
    """

    blocks: Encoder

    def __init__(
        self,
        patches: Stem,
        *,
        depth: int,
        after: Collection[int] = (0,),
        positions: Make = PositionEncodingGenerator,
        block: Make = Block,
        encoded: Make = EncodedBlock,
        **options: Any,
    ) -> None:
        if any(i not in range(depth) for i in after):
            raise ValueError(f"after={(*after,)}: a generator follows a layer, and these are 0 to {depth - 1}")
        layers = iter(range(depth))

        def layer(dim: int, **told: Any) -> nn.Module:
            return encoded(dim, positions=positions, **told) if next(layers) in after else block(dim, **told)

        super().__init__(patches, depth=depth, block=layer, **options)
        del self.positions
        self.blocks = Encoder(*self.blocks)

    def embed(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """The tokens that enter the blocks: no position is added to them."""
        return self.pre_norm(self._registered(self.dropout(self.pooling.prepend(self.patches(images)))))

    def tokens(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """All tokens after the last norm, in the order of ``embed``."""
        return self.norm(self.blocks(self.embed(images), *self._grid(images)))

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b c gy gx"]]:
        """The patch tokens after each block and its generator, as in ``VisionModel``; the last norm is not applied."""
        grid = self._grid(images)

        def run(block: nn.Module, z: Tensor) -> Tensor:
            return self.blocks.run(block, z, *grid)

        def as_map(z: Tensor) -> Tensor:
            return z[:, z.shape[1] - math.prod(grid) :].mT.unflatten(2, grid)

        return maps_after(self.blocks, self.embed(images), out_indices, run=run, as_map=as_map)

    def resize(self, image_size: Size) -> "CPVT":
        """Nothing changes in the parameters: no position belongs to a size. Errors as in ``VisionTransformer``."""
        resize_stem(self.patches, image_size)
        return self

    def _grid(self, images: Tensor) -> Pair:
        """Rows and columns of the patches of these images."""
        return self.patches.grid_of(images) if isinstance(self.patches, Patches) else self.patches.grid


def start(layer: nn.Module, *, parts: int = 1) -> None:
    """As DeiT starts, and a generator with variance 2 / kernel^2: how the authors' code for Twins starts it."""
    truncated_normal(layer, parts=parts)
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, std=(2 / layer.weight[0, 0].numel()) ** 0.5)
        zero_bias(layer)


# The sizes of DeiT. "0-5": a generator after each of the first five layers, as figure 4 of version 2 calls what table 5
# marks with a double dagger; so marked are the models with global average pooling, too.
_SINGLE: dict[str, Any] = {"after": (0,), "pooling": ClassToken}
_FIVE: dict[str, Any] = {"after": (0, 1, 2, 3, 4), "pooling": ClassToken}
_POOLED: dict[str, Any] = {"after": (0, 1, 2, 3, 4), "pooling": MeanPooling}
VARIANTS: dict[str, dict[str, Any]] = {
    # stochastic depth as in DeiT's recipe
    f"{size}{kind}": {**SIZES[f"{size}/16"], **parts, "drop_path": 0.1}
    for kind, parts, sizes in (
        ("", _SINGLE, ("Ti", "S", "B")),
        (" 0-5", _FIVE, ("Ti", "S", "B")),
        (" GAP", _POOLED, ("Ti", "S")),
    )
    for size in sizes
}


@pretrainable
def cpvt(variant: str, *, num_classes: int | None = 1000, channels: int = 3, **overrides: Any) -> CPVT:
    """A CPVT by its name: ``"S"`` has one generator, ``"S 0-5"`` five, ``"S GAP"`` five and no class token.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        channels: channels of the image.
        overrides: ``dim``, ``patch`` and any argument of ``CPVT``, such as ``after``, ``positions``, ``drop_path``.

    Raises:
        ValueError: if the variant is unknown, or if there is no layer that a generator could follow.
    """
    options = {**lookup(VARIANTS, variant), **overrides}
    patches = Patches(options.pop("dim"), patch=options.pop("patch"), channels=channels)
    model = CPVT(patches, num_classes=num_classes, **options)
    if isinstance(model.pooling, ClassToken):
        nn.init.trunc_normal_(model.pooling.token, std=0.02)
    model.initialise(start)
    return model
