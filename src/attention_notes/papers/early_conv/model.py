"""Early Convolutions Help Transformers See Better.

Xiao et al. 2021, arXiv 2106.14881. The idea: let a few overlapping 3 x 3 convolutions of stride two make the tokens of
a ViT, in the place of one 16 x 16 convolution of stride 16, and drop one block to pay for them.

Departures:
    - Blocks and head start as in ``vit``. In the authors' code the head starts at zero, biases of perceptrons have a
      deviation of 1e-6, and attentions start as PyTorch's own, which draws queries, keys and values as one map.
    - The stem starts as in the authors' code of July 2021 and in torchvision: PyTorch's own start for the 3 x 3
      convolutions, variance 2 / D for the last. Since March 2022 their code has variance 2 / width and 1 / D.
    - Sizes that the strides do not divide are refused, as by the authors' code; convolutions with padding would take
      any size, but the table of positions would not.
    - In table 3 the first width of stem S1 is 52 here, and 42 in print. Only 52 is half of 104, as the paper's rule
      asks for, and only 52 gives the parameters and the cost that the same row prints.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.initialise import zero_bias
from attention_notes.nn.protocols import Make, Stem
from attention_notes.nn.sizes import Size, check_channels, check_images, pair
from attention_notes.nn.variants import lookup
from attention_notes.papers.vit import PatchEmbedding, VisionTransformer
from attention_notes.weights.pretrained import pretrainable


class ConvStem(nn.Module):
    """Convolutions that shrink the image step by step, and a 1 x 1 convolution to the width D (section 3).

        x_0 = image
        x_i = ReLU(BN(conv_i(x_{i-1}))),  i = 1 ... n,   conv_i: 3 x 3 of stride s_i, without bias
        z   = conv_{n+1}(x_n),                           conv_{n+1}: 1 x 1, with a bias

    The image becomes one token for each p x p pixels, p = s_1 ... s_n, row by row, as many as patches of p pixels make.
    Put it before any trunk that takes a ``Stem``.

    Batch norms depend on the whole batch in training, and in evaluation on running statistics, which are part of the
    state. ``checkpointing`` of a trunk leaves the stem alone, so the statistics move once a step.

    Args:
        dim: width ``c`` of a token, D in the paper.
        image_size: height and width in pixels, or one number for both.
        widths: channels after each convolution but the last.
        strides: of the same convolutions; 2 each when not given.
        kernels: sides of their kernels; 3 each when not given. A kernel as large as its stride is a layer of patches
            without padding, as in the stems S1 to S4 of appendix A; any other is odd, with half of it as padding.
        channels: channels of the image.
        norm: makes a norm of maps ``b w y x`` from their channels.
        activation: makes a non-linearity.

    Raises:
        ValueError: if there are not as many strides and kernels as widths, if a number is below 1, if an even kernel is
            no layer of patches, if the strides do not divide the image, or if it has no channels.
    """

    def __init__(
        self,
        dim: int,
        *,
        image_size: Size,
        widths: Sequence[int],
        strides: Sequence[int] | None = None,
        kernels: Sequence[int] | None = None,
        channels: int = 3,
        norm: Make = nn.BatchNorm2d,
        activation: Make = nn.ReLU,
    ) -> None:
        super().__init__()
        self.dim, self.channels = dim, check_channels(channels)
        steps = _steps(widths, strides, kernels)
        p = 1
        for _, stride, _ in steps:
            p *= stride
        self.patch = (p, p)  # pixels from one token to the next: the patch that a token is in the place of
        self.resize(image_size)
        self.layers = nn.Sequential()
        for width, stride, kernel in steps:
            padding = 0 if kernel == stride else kernel // 2
            convolution = nn.Conv2d(channels, width, kernel, stride=stride, padding=padding, bias=False)
            self.layers.append(nn.Sequential(convolution, norm(width), activation()))
            channels = width
        self.projection = nn.Conv2d(channels, dim, 1)
        nn.init.normal_(self.projection.weight, std=(2 / dim) ** 0.5)
        zero_bias(self.projection)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.patch[0], self.image_size[1] // self.patch[1]

    def resize(self, image_size: Size) -> None:
        """Expect images of another size. Parameters and running statistics stay as they are."""
        size, p = pair(image_size), self.patch[0]
        if any(side % p for side in size):
            below = " x ".join(str(max(side // p, 1) * p) for side in size)
            above = " x ".join(str(-(-side // p) * p) for side in size)
            fits = " and ".join(dict.fromkeys((below, above)))
            raise ValueError(
                f"an image of {size[0]} x {size[1]} is not divided by strides that make {p}; the nearest sizes that "
                f"are: {fits}"
            )
        self.image_size = size

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """Convolve, and lay the map out in a row. Raises ``ValueError`` for other channels or another size."""
        check_images(images, self.channels)
        y, x = images.shape[2:]
        if (y, x) != self.image_size:
            raise ValueError(
                f"images of {y} x {x}, but the stem was built for {self.image_size[0]} x {self.image_size[1]}: build "
                f"it with image_size=({y}, {x}), resize the images, or call model.resize(({y}, {x}))"
            )
        return rearrange(self.projection(self.layers(images)), "b c gy gx -> b (gy gx) c")


def _steps(
    widths: Sequence[int], strides: Sequence[int] | None, kernels: Sequence[int] | None
) -> list[tuple[int, int, int]]:
    """Width, stride and kernel of each convolution but the last."""
    strides, kernels = (
        [usual] * len(widths) if given is None else given for given, usual in ((strides, 2), (kernels, 3))
    )
    if not len(widths) == len(strides) == len(kernels):
        raise ValueError(
            f"{len(widths)} widths, {len(strides)} strides and {len(kernels)} kernels: one of each for every "
            "convolution but the last"
        )
    steps = list(zip(widths, strides, kernels, strict=True))
    for width, stride, kernel in steps:
        if min(width, stride, kernel) < 1:
            raise ValueError(f"a convolution of width {width}, stride {stride} and kernel {kernel}: each is 1 or more")
        if kernel % 2 == 0 and kernel != stride:
            raise ValueError(
                f"kernel {kernel} with stride {stride}: give an odd kernel, or one as large as its stride, which is a "
                "layer of patches"
            )
    return steps


class ViTC(VisionTransformer):
    """A ViT behind a ``ConvStem``, ViT_C in the paper: its class tells whose weights it can have."""


STEMS: dict[str, Callable[..., Stem]] = {
    # table 3, for a width of 384: the patchify stem, the convolutional stem, and four with one layer of patches
    "P": partial(PatchEmbedding, patch=16),
    "C": partial(ConvStem, widths=(48, 96, 192, 384)),
    "S1": partial(ConvStem, widths=(52, 104, 208, 416), kernels=(3, 3, 3, 2)),
    "S2": partial(ConvStem, widths=(32, 64, 128, 256), kernels=(3, 3, 3, 4), strides=(2, 2, 1, 4)),
    "S3": partial(ConvStem, widths=(17, 34, 68, 136), kernels=(3, 3, 3, 8), strides=(2, 1, 1, 8)),
    "S4": partial(ConvStem, widths=(8, 16, 32, 64), kernels=(3, 3, 3, 16), strides=(1, 1, 1, 16)),
}

_C18 = partial(ConvStem, widths=(64, 128, 128, 256, 256, 512), strides=(2, 2, 1, 2, 1, 2))
_SIZES: dict[str, dict[str, int]] = {
    # table 1
    "1GF": {"dim": 192, "depth": 12, "heads": 3, "hidden": 3 * 192},
    "4GF": {"dim": 384, "depth": 12, "heads": 6, "hidden": 3 * 384},
    "18GF": {"dim": 768, "depth": 12, "heads": 12, "hidden": 4 * 768},
    "36GF": {"dim": 1024, "depth": 14, "heads": 16, "hidden": 4 * 1024},
    # appendix C
    "72GF": {"dim": 1152, "depth": 22, "heads": 18, "hidden": 4 * 1152},
}
_C_STEMS: dict[str, Callable[..., ConvStem]] = {
    # section 3, "Convolutional stem details"; strides of the 18GF stem as in the authors' configurations
    "1GF": partial(ConvStem, widths=(24, 48, 96, 192)),
    "4GF": partial(ConvStem, widths=(48, 96, 192, 384)),
    "18GF": _C18,
    "36GF": _C18,
    "72GF": _C18,
}

VARIANTS: dict[str, dict[str, Any]] = {
    # table 1: ViT_P has patches of 16 pixels, ViT_C the convolutional stem and one block less
    **{f"P-{size}": {**row, "stem": STEMS["P"]} for size, row in _SIZES.items()},
    **{f"C-{size}": {**row, "stem": _C_STEMS[size], "depth": row["depth"] - 1} for size, row in _SIZES.items()},
}
VARIANTS["C-72GF"]["depth"] += 1  # appendix C: here the stem costs so little that no block is dropped


@pretrainable
def early_conv(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size = 224,
    channels: int = 3,
    **overrides: Any,
) -> VisionTransformer:
    """A ViT_C or ViT_P by its name: ``"C-4GF"`` has the convolutional stem, ``"P-4GF"`` patches and one block more.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: ``stem``, which makes a ``Stem`` from ``dim``, ``image_size`` and ``channels``, such as
            ``partial(ConvStem, widths=(48, 96), strides=(4, 4))``; ``dim``; and any other argument of
            ``VisionTransformer``, as ``depth``, ``heads``, ``hidden``, ``drop_path``, ``pooling``, ``block``.

    Raises:
        ValueError: if the variant is unknown, or if the stem cannot take images of that size.
    """
    options = {**lookup(VARIANTS, variant), **overrides}
    stem = options.pop("stem")(options.pop("dim"), image_size=image_size, channels=channels)
    kind = ViTC if isinstance(stem, ConvStem) else VisionTransformer
    return kind(stem, num_classes=num_classes, **options)
