"""Scaling Laws in Patchification: An Image Is Worth 50,176 Tokens And More.

Wang et al. 2025, arXiv 2502.03738, version 2. The idea: leave the network and its training as they are, and make the
patches smaller, down to one token for each pixel.

Departures, beside those of ``deit``:
    - The paper's other network is not here: Adventurer, with Mamba in the place of attention, of which all its results
      with more than 4,096 tokens are (section 3.1).
    - Section 4.3 interpolates tokens and does not say how. Here it is done bilinearly.
    - Stochastic depth is that of DeiT, 0.1, at every size. The paper trains the large and the huge size by the recipe
      of He et al. 2022, arXiv 2111.06377 (appendix A).
"""

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from attention_notes.nn.sizes import Size, pair
from attention_notes.nn.variants import lookup
from attention_notes.papers.deit import DistilledVisionTransformer, deit
from attention_notes.papers.vit import PatchEmbedding, VisionTransformer
from attention_notes.weights.pretrained import pretrainable


class ExtendedPatches(PatchEmbedding):
    """Large patches whose tokens are interpolated to a finer grid: the control of table 5, "by extending".

        x' = U (x_p E + b)

    E reads patches of p x p pixels. U interpolates their L tokens bilinearly to the r² L of patches of p / r, so that
    the sequence is as long as theirs, but of rank L at most.

    Args:
        dim: width ``c`` of a token, D in the paper.
        image_size: height and width in pixels, or one number for both.
        patch: height and width of a patch in pixels, or one number for both.
        times: tokens down, and across, for each patch; r.
        channels: channels of the image.
        bias: whether the map has a bias.

    Raises:
        ValueError: if a patch cannot be shared out among r x r tokens in whole pixels; and as ``PatchEmbedding``.
    """

    def __init__(
        self, dim: int, *, image_size: Size, patch: Size, times: int, channels: int = 3, bias: bool = True
    ) -> None:
        super().__init__(dim, image_size=image_size, patch=patch, channels=channels, bias=bias)
        self.cell = _shared(self.patch, times)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.cell[0], self.image_size[1] // self.cell[1]

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """Cut, flatten, project, interpolate. Raises ``ValueError`` as ``PatchEmbedding``."""
        tokens = rearrange(super().forward(images), "b (gy gx) c -> b c gy gx", gy=self.image_size[0] // self.patch[0])
        return rearrange(F.interpolate(tokens, self.grid, mode="bilinear"), "b c gy gx -> b (gy gx) c")


def _shared(patch: tuple[int, int], times: int) -> tuple[int, int]:
    """Pixels of a patch for each of the tokens that are made of it."""
    y, x = patch
    if times < 1 or y % times or x % times:
        raise ValueError(
            f"a patch of {y} x {x} pixels cannot be shared out among {times} x {times} tokens: give a number, 1 or "
            "more, that divides both sides"
        )
    return y // times, x // times


_SIZES: dict[str, dict[str, int]] = {
    # table 7; heads as in DeiT (Touvron et al. 2020, table 1) and DeiT III
    "Ti": {"dim": 192, "depth": 12, "heads": 3, "hidden": 768},
    "S": {"dim": 384, "depth": 12, "heads": 6, "hidden": 1536},
    "B": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072},
    "L": {"dim": 1024, "depth": 24, "heads": 16, "hidden": 4096},
    "H": {"dim": 1280, "depth": 32, "heads": 16, "hidden": 5120},
}
_ROWS = (
    *((size, 16, 224) for size in _SIZES),  # table 7
    *(("B", patch, 224) for patch in (8, 4, 2, 1)),  # table 6
    *(("B", patch, 128) for patch in (16, 8, 4, 2)),  # table 1, which has no pixels as tokens at this size
    *(("B", patch, 64) for patch in (16, 8, 4, 2, 1)),  # table 1
)
VARIANTS: dict[str, dict[str, Any]] = {
    f"{size}/{patch}{'' if pixels == 224 else f' {pixels}'}": {**_SIZES[size], "patch": patch, "image_size": pixels}
    for size, patch, pixels in _ROWS
}


@pretrainable
def patchification(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size | None = None,
    channels: int = 3,
    extend: int = 1,
    **overrides: Any,
) -> VisionTransformer | DistilledVisionTransformer:
    """A DeiT on patches of another size: ``"B/1 64"`` has a token for each of 64 x 64 pixels.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both; the variant's own when not given.
        channels: channels of the image.
        extend: tokens down, and across, that ``ExtendedPatches`` makes of each patch; with 1 each patch is a token.
        overrides: ``patch``, which may be any size that tiles the image, and any other argument of ``deit``.

    Raises:
        ValueError: if the variant is unknown, if its patches do not tile the image, or if ``extend`` does not divide
            them.
    """
    options = {**lookup(VARIANTS, variant), **overrides}
    if image_size is not None:
        options["image_size"] = image_size
    patch = pair(options.pop("patch"))
    cell = _shared(patch, extend)
    model = deit("B/16", num_classes=num_classes, channels=channels, patch=cell, **options)
    if extend > 1:
        encoder = model.encoder if isinstance(model, DistilledVisionTransformer) else model
        told = {"channels": channels, "bias": options.get("patch_bias", True)}
        size = options["image_size"]
        encoder.patches = ExtendedPatches(encoder.num_features, image_size=size, patch=patch, times=extend, **told)
    return model
