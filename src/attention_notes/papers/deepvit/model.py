"""DeepViT: Towards Deeper Vision Transformer.

Zhou et al. 2021, arXiv 2103.11886. The idea: in a deep ViT the attention maps of late layers grow alike; mix the maps
of the heads by a learned matrix, normalise what comes out, and multiply the values by that.

The paper's Re-attention is ``ReAttention``; everything else is ViT's.

Departures:
    - None in what is computed, and none in how the weights start: as in the authors' code, patches and Θ keep
      PyTorch's start for a convolution, the rest comes from a truncated normal distribution.
    - The paper's equation has a Norm and does not say which. It is the authors' code's: a batch norm over each head's
      maps. Their Θ has a bias besides, which has no effect in training, as the norm subtracts it.
    - In the authors' code the matrix is a convolution of 1 x 1; here it is one product. The numbers are the same.
    - Their penalty on similar maps (``cos_reg`` in the authors' code) is a loss, and not part of the model.
"""

from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import attention_weights
from attention_notes.nn.initialise import truncated_normal
from attention_notes.nn.mixing import mix_heads
from attention_notes.nn.protocols import Make, Stem
from attention_notes.nn.sizes import Size, check_images
from attention_notes.nn.variants import lookup
from attention_notes.papers.vit import Block, ClassToken, PatchEmbedding, SelfAttention, VisionTransformer
from attention_notes.papers.vit.model import _check_size
from attention_notes.weights.pretrained import pretrainable


class ReAttention(SelfAttention):
    """Self-attention that makes a new map for each head from the maps of all (the paper's equation of Re-attention).

        P_i       = softmax(Q_i K_iᵀ / √d)                      h maps of n x n, whose rows sum to one
        R_g       = Norm(Σ_i Θ_ig P_i + b_g)                    Norm(Θᵀ P)
        output_g  = R_g V_g

    ``record_attention`` keeps P; R is what ``norm`` gives. The authors' code has a batch norm, so R depends in
    training on the whole batch. Then, without dropout, each row of R sums to n times the norm's bias: first to zero.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        norm: makes Norm, on maps ``b h n n``, from ``heads``; ``nn.Identity`` for none.
        scale: factor on R: 1 / √d in DeepViT-S, 1 in all others of the authors' code.
        options: ``qkv_bias`` and ``attention_dropout`` of ``SelfAttention``. What is dropped are weights of P.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(
        self, dim: int, *, heads: int, norm: Make = nn.BatchNorm2d, scale: float = 1.0, **options: Any
    ) -> None:
        super().__init__(dim, heads=heads, **options)
        bound = heads**-0.5  # as PyTorch starts a convolution of 1 x 1
        self.theta = nn.Parameter(torch.empty(heads, heads).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads).uniform_(-bound, bound))
        self.norm = norm(heads)
        self.scale = scale

    def regenerate(self, maps: Float[Tensor, "b h n n"]) -> Float[Tensor, "b h n n"]:
        """New maps from those of all heads: R."""
        return self.norm(mix_heads(maps, self.theta.T, self.bias)) * self.scale

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token, and multiply the values by the new maps."""
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        maps = self.attention_dropout(attention_weights(q, k))
        return self.output(rearrange(self.regenerate(maps) @ v, "b h n d -> b n (h d)"))


class RescaledBlock(Block):
    """A layer whose norms are given a fraction of the tokens, and whose branches are divided by it.

        z'  = z  + MSA(LN(a z)) / a
        z'' = z' + MLP(LN(a z')) / a

    LN does not see ``a``, but for its epsilon. So with a = 1/2, as in the authors' code of DeepViT-S and L, every
    branch counts twice.

    Args:
        dim: width ``c`` of the tokens.
        factor: ``a``.
        options: of ``Block``.
    """

    def __init__(self, dim: int, *, factor: float, **options: Any) -> None:
        super().__init__(dim, **options)
        self.factor = factor

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Mix the tokens, then change each by itself."""
        a = self.factor
        z = self.drop_path(self.attention_scale(self.dropout(self.attention(self.attention_norm(z * a)))) / a) + z
        return self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(z * a))) / a) + z


class ConvPatches(PatchEmbedding):
    """Patches of 8 x 8 on a map of half the image's size, which two convolutions make (DeepViT-S and L).

        x_1 = ReLU(BN(conv(image))),   7 x 7 of stride 2, 64 channels
        x_2 = ReLU(BN(conv(x_1))),     3 x 3 of stride 1, 64 channels
        z   = conv(x_2),               8 x 8 of stride 8, with a bias

    Arguments and errors as in ``PatchEmbedding``, with patches of 16 x 16.
    """

    def __init__(self, dim: int, *, image_size: Size, channels: int = 3) -> None:
        super().__init__(dim, image_size=image_size, patch=16, channels=channels)
        layers = (
            nn.Sequential(
                nn.Conv2d(width, 64, kernel, stride=stride, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(),
            )
            for width, kernel, stride in ((channels, 7, 2), (64, 3, 1))
        )
        self.layers = nn.Sequential(*layers)
        self.add_module("projection", nn.Conv2d(64, dim, 8, stride=8))

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """Convolve, and lay the map out in a row. Raises ``ValueError`` as ``PatchEmbedding``."""
        check_images(images, self.channels)
        _check_size(images, self.image_size)
        return rearrange(self.projection(self.layers(images)), "b c gy gx -> b (gy gx) c")


class DeepViT(VisionTransformer):
    """A ViT whose last layers, or all, have Re-attention.

    Args:
        patches: as in ``VisionTransformer``.
        depth: number of layers.
        reattention_depth: in how many of them, the last ones, ``attention`` takes the place of ViT's; all when not
            given.
        attention: makes the attention of these layers, as in ``Block``.
        plain: makes that of the layers before.
        block: makes a layer, as in ``VisionTransformer``, and is told its ``attention``.
        options: as in ``VisionTransformer``.

    Raises:
        ValueError: if there are not so many layers, or as ``VisionTransformer``.
    """

    def __init__(
        self,
        patches: Stem,
        *,
        depth: int,
        reattention_depth: int | None = None,
        attention: Make = ReAttention,
        plain: Make = SelfAttention,
        block: Make = Block,
        **options: Any,
    ) -> None:
        last = depth if reattention_depth is None else reattention_depth
        if not 0 <= last <= depth:
            raise ValueError(f"reattention_depth={last}, but there are {depth} layers: give 0 to {depth}")
        kinds = iter([plain] * (depth - last) + [attention] * last)

        def layer(dim: int, **told: Any) -> nn.Module:
            return block(dim, attention=next(kinds), **told)

        super().__init__(patches, depth=depth, block=layer, **options)


# All have 12 heads. Stochastic depth as in the configurations of 24, 32, S and L; the others have none in print.
_SHARED: dict[str, Any] = {"heads": 12, "drop_path": 0.2}
_PATCHES: dict[str, Any] = {"dim": 384, "hidden": 1152, "stem": partial(PatchEmbedding, patch=16), **_SHARED}
_CONVOLVED: dict[str, Any] = {"stem": ConvPatches, "block": partial(RescaledBlock, factor=0.5), **_SHARED}
_L: dict[str, Any] = {"dim": 420, "depth": 32, "hidden": 1260, "reattention_depth": 12, **_CONVOLVED}
VARIANTS: dict[str, dict[str, Any]] = {
    # tables 1 and 2 of the authors' README; sizes as in deep_vision_transformer.py
    "16": {"depth": 16, **_PATCHES, "image_size": 224},
    "24": {"depth": 24, **_PATCHES, "image_size": 224},
    "32": {"depth": 32, **_PATCHES, "image_size": 224},
    "S": {
        **{"dim": 396, "depth": 16, "hidden": 1188, "reattention_depth": 5, **_CONVOLVED},
        "attention": partial(ReAttention, scale=33**-0.5),
        "image_size": 224,
    },
    "L": {**_L, "image_size": 224},
    "L 384": {**_L, "image_size": 384},
}


@pretrainable
def deepvit(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size | None = None,
    channels: int = 3,
    **overrides: Any,
) -> DeepViT:
    """A DeepViT by its name: ``"32"`` has 32 layers of width 384, ``"L"`` convolutions before its patches.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both; the variant's own when not given.
        channels: channels of the image.
        overrides: ``stem``, which makes a ``Stem`` from ``dim``, ``image_size`` and ``channels``, such as
            ``partial(PatchEmbedding, patch=8)``; ``dim``; and any argument of ``DeepViT``, such as ``depth``,
            ``reattention_depth``, ``attention``, ``hidden``.

    Raises:
        ValueError: if the variant is unknown, or if the stem cannot take images of that size.
    """
    options = {**lookup(VARIANTS, variant), **overrides}
    own = options.pop("image_size")
    size = own if image_size is None else image_size
    patches = options.pop("stem")(options.pop("dim"), image_size=size, channels=channels)
    model = DeepViT(patches, num_classes=num_classes, **options)
    if isinstance(patches, PatchEmbedding):
        patches.projection.reset_parameters()  # as PyTorch starts a convolution
    nn.init.trunc_normal_(model.positions, std=0.02)
    if isinstance(model.pooling, ClassToken):
        nn.init.trunc_normal_(model.pooling.token, std=0.02)
    model.initialise(truncated_normal)
    return model
