"""An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.

Dosovitskiy et al. 2020, arXiv 2010.11929. The idea: cut an image into patches, call each patch a word, and give the
sentence to a Transformer encoder.

Departures:
    - The head is the one linear layer of fine-tuning (section 3.1). It starts small where the paper's starts at zero,
      so that the output of an untrained model depends on its input.
    - No hybrid: ``patches`` may be any module that turns images into tokens and knows its ``grid`` and ``dim``.
    - Without a class token, ``MeanPooling`` averages the normalised patch tokens, as the authors' code does.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import attention
from attention_notes.nn.drop_path import DropPath, depth_rates
from attention_notes.nn.mlp import MLP
from attention_notes.nn.sizes import Size, pair
from attention_notes.weights.pretrained import pretrainable


class PatchEmbedding(nn.Module):
    """Flatten each patch and map it to the model's width: x_p^i E of equation 1, with a bias.

    The image becomes N = (Y / P_y) (X / P_x) tokens, row by row. Equal to a convolution whose kernel and stride
    are the patch, with ``weight.flatten(1)`` as the map.

    Args:
        dim: width ``c`` of a token, D in the paper.
        image_size: height and width in pixels, or one number for both.
        patch: height and width of a patch in pixels, or one number for both.
        channels: channels of the image.

    Raises:
        ValueError: if patches do not tile the image.
    """

    def __init__(self, dim: int, *, image_size: Size, patch: Size, channels: int = 3) -> None:
        super().__init__()
        self.dim, self.channels = dim, channels
        self.patch = pair(patch)
        self.resize(image_size)
        self.projection = nn.Linear(channels * self.patch[0] * self.patch[1], dim)
        nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)
        nn.init.zeros_(self.projection.bias)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch[0], self.image_size[1] // self.patch[1]

    def resize(self, image_size: Size) -> None:
        """Expect images of another size, cut into patches of the same size."""
        _check_fits(pair(image_size), self.patch)
        self.image_size = pair(image_size)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """Cut, flatten, project. Raises ``ValueError`` for images of other channels or another size."""
        _check_images(images, self.channels, self.image_size)
        py, px = self.patch
        return self.projection(rearrange(images, "b ch (gy py) (gx px) -> b (gy gx) (ch py px)", py=py, px=px))


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused map (appendix A, equations 5 to 8).

        [q, k, v] = z U_qkv
        A         = softmax(q kᵀ / √D_h)
        SA(z)     = A v
        MSA(z)    = [SA_1(z); ...; SA_k(z)] U_msa

    Here ``qkv`` is U_qkv of all heads, ``output`` is U_msa, and D_h = D / k.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim={dim} is not divisible by heads={heads}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token."""
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        return self.output(rearrange(attention(q, k, v), "b h n d -> b n (h d)"))


class Block(nn.Module):
    """One pre-norm layer of the encoder (equations 2 and 3).

        z'  = MSA(LN(z)) + z
        z'' = MLP(LN(z')) + z'

    Args:
        dim: width ``c`` of the tokens.
        heads: heads of the attention.
        hidden: hidden width of the MLP.
        dropout: probability of dropping, after every linear map but ``qkv`` (appendix B.1).
        drop_path: probability that a sample skips a branch in training, which later recipes want; none here.
    """

    def __init__(self, dim: int, *, heads: int, hidden: int, dropout: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, heads=heads)
        self.dropout = nn.Dropout(dropout)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, hidden=hidden, dropout=dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Mix the tokens, then change each by itself."""
        z = self.drop_path(self.dropout(self.attention(self.attention_norm(z)))) + z
        return self.drop_path(self.mlp(self.mlp_norm(z))) + z


class ClassToken(nn.Module):
    """A learned token in front of the patches; what it has become at the end stands for the image (section 3.1)."""

    extra = 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))

    def prepend(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """Put the token before the ``n`` patches; ``m = n + 1``."""
        return torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1)

    def forward(self, z: Float[Tensor, "b m c"]) -> Float[Tensor, "b c"]:
        """Read the token."""
        return z[:, 0]


class MeanPooling(nn.Module):
    """No extra token: the mean of the patches stands for the image (appendix D.3)."""

    extra = 0

    def __init__(self, dim: int) -> None:
        super().__init__()

    def prepend(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Add nothing."""
        return patches

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
        """Average over the tokens."""
        return z.mean(dim=1)


class VisionTransformer(nn.Module):
    """Tokens of patches, a Transformer encoder, and a head on what the pooling reads (equations 1 to 4).

        z_0 = [x_class; x_p^1 E; ...; x_p^N E] + E_pos
        z_l = Block_l(z_{l-1}),  l = 1 ... L
        y   = LN(z_L)^0

    Args:
        patches: module that turns images into tokens of width ``patches.dim``, one for each cell of ``patches.grid``.
        depth: number of layers L.
        heads: heads of each attention.
        hidden: hidden width of each MLP.
        num_classes: width of the output; ``None`` for no head: the model then returns y, of width ``c``.
        pooling: makes the module that stands for the image, from the width: ``ClassToken`` or ``MeanPooling``.
        dropout: probability of dropping, also after the position embeddings are added (appendix B.1).
        drop_path: probability of skipping a branch of the last block in training, growing from none at the first.
    """

    def __init__(
        self,
        patches: Any,
        *,
        depth: int,
        heads: int,
        hidden: int,
        num_classes: int | None,
        pooling: Callable[[int], Any] = ClassToken,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.patches = patches
        dim, (rows, columns) = patches.dim, patches.grid
        self.pooling = pooling(dim)
        self.positions = nn.Parameter(torch.empty(1, rows * columns + self.pooling.extra, dim).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        options: dict[str, Any] = {"heads": heads, "hidden": hidden, "dropout": dropout}
        rates = depth_rates(drop_path, depth)
        self.blocks = nn.Sequential(*(Block(dim, **options, drop_path=rate) for rate in rates))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Identity() if num_classes is None else nn.Linear(dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Glorot's uniform for every linear map, as in the authors' code, each of q, k and v by itself."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("patches"):
                for weight in module.weight.chunk(3) if name.endswith("qkv") else (module.weight,):
                    nn.init.xavier_uniform_(weight)
                nn.init.zeros_(module.bias)
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)

    def tokens(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """All tokens after the last norm, the class token first where there is one."""
        z = self.dropout(self.pooling.prepend(self.patches(images)) + self.positions)
        return self.norm(self.blocks(z))

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or the pooled token itself where the model has no head."""
        return self.head(self.pooling(self.tokens(images)))

    def resize(self, image_size: Size) -> "VisionTransformer":
        """Make the model, in place, expect another image size, its position embeddings interpolated (section 3.2).

        Raises:
            ValueError: if patches do not tile an image of that size.
        """
        old = self.patches.grid
        self.patches.resize(image_size)
        positions = resize_positions(self.positions.detach(), grid=old, to=self.patches.grid, extra=self.pooling.extra)
        self.positions = nn.Parameter(positions, requires_grad=self.positions.requires_grad)
        return self


def resize_positions(
    positions: Float[Tensor, "1 n c"], *, grid: tuple[int, int], to: tuple[int, int], extra: int = 1
) -> Float[Tensor, "1 m c"]:
    """Interpolate learned position embeddings to another grid of patches, in two dimensions (section 3.2).

    Bicubic, with antialiasing when the grid shrinks; the first ``extra`` rows belong to no patch and stay.

    Raises:
        ValueError: if the ``n`` rows are not ``extra`` and one for each cell of ``grid``.
    """
    (rows, columns), n = grid, positions.shape[1]
    if n != extra + rows * columns:
        raise ValueError(
            f"{n} position embeddings, but {extra} extra and a grid of {rows} x {columns} make {extra + rows * columns}"
        )
    if grid == to:
        return positions
    picture = rearrange(positions[:, extra:], "1 (gy gx) c -> 1 c gy gx", gy=rows)
    if picture.dtype in (torch.bfloat16, torch.float16):
        picture = picture.float()
    picture = F.interpolate(picture, size=to, mode="bicubic", antialias=True).to(positions.dtype)
    return torch.cat([positions[:, :extra], rearrange(picture, "1 c gy gx -> 1 (gy gx) c")], dim=1)


_SIZES: dict[str, dict[str, int]] = {
    # Touvron et al. 2020, table 1; named so by Steiner et al. 2021, table 1
    "Ti": {"dim": 192, "depth": 12, "heads": 3, "hidden": 768},
    "S": {"dim": 384, "depth": 12, "heads": 6, "hidden": 1536},
    # table 1
    "B": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072},
    "L": {"dim": 1024, "depth": 24, "heads": 16, "hidden": 4096},
    "H": {"dim": 1280, "depth": 32, "heads": 16, "hidden": 5120},
}

_PATCHES = {"Ti": (16,), "S": (16, 32), "B": (8, 16, 32), "L": (16, 32), "H": (14,)}

VARIANTS: dict[str, dict[str, Any]] = {
    f"{size}/{patch}": {**_SIZES[size], "patch": patch} for size, patches in _PATCHES.items() for patch in patches
}


@pretrainable
def vit(
    variant: str, *, num_classes: int | None = 1000, image_size: Size = 224, channels: int = 3, **overrides: Any
) -> VisionTransformer:
    """A Vision Transformer by its name, such as ``"B/16"``: the base size, on patches of 16 pixels.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: any of ``dim``, ``depth``, ``heads``, ``hidden``, ``patch``, ``pooling``, ``dropout``, ``drop_path``.

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    options = {**VARIANTS[variant], **overrides}
    patches = PatchEmbedding(options.pop("dim"), image_size=image_size, patch=options.pop("patch"), channels=channels)
    return VisionTransformer(patches, num_classes=num_classes, **options)


def _check_fits(image: tuple[int, int], patch: tuple[int, int]) -> None:
    if all(i % p == 0 and i >= p for i, p in zip(image, patch, strict=True)):
        return
    below = [max(i // p, 1) * p for i, p in zip(image, patch, strict=True)]
    above = [max(-(-i // p), 1) * p for i, p in zip(image, patch, strict=True)]
    sizes = " and ".join(dict.fromkeys(f"{y} x {x}" for y, x in (below, above)))
    raise ValueError(
        f"an image of {image[0]} x {image[1]} cannot be cut into patches of {patch[0]} x {patch[1]}; "
        f"the nearest sizes that fit: {sizes}"
    )


def _check_images(images: Tensor, channels: int, size: tuple[int, int]) -> None:
    _, ch, y, x = images.shape
    if ch != channels:
        raise ValueError(f"images have {ch} channels, but the model was built for channels={channels}")
    if (y, x) != size:
        raise ValueError(
            f"images of {y} x {x}, but the model was built for {size[0]} x {size[1]}: build it with "
            f"image_size=({y}, {x}), resize the images, or call model.resize(({y}, {x})), which interpolates the "
            "position embeddings with resize_positions"
        )
