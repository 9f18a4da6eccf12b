"""An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.

Dosovitskiy et al. 2020, arXiv 2010.11929. The idea: cut an image into patches, call each patch a word, and give the
sentence to a Transformer encoder.

Departures:
    - The head is the one linear layer of fine-tuning (section 3.1). It starts small where the paper's starts at zero,
      so that the output of an untrained model depends on its input.
    - No hybrid: ``patches`` may be any ``Stem``, a module that turns images into tokens.
    - Without a class token, ``MeanPooling`` averages the normalised patch tokens, as the authors' code does.

What later papers changed in this trunk is switched on by arguments, and off by default: LayerScale, register tokens, a
norm before the blocks, no bias of queries, keys and values, no position for the class token. ``later.py`` has the names
of such models. Blocks, attentions, perceptrons, norms, activations, stems and poolings may be anybody's.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import AttentionDropout, attention
from attention_notes.nn.block import PreNormBlock
from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.drop_path import depth_rates
from attention_notes.nn.heads import check_heads
from attention_notes.nn.initialise import Start, initialise, zero_bias
from attention_notes.nn.mlp import MLP
from attention_notes.nn.norms import layer_norm
from attention_notes.nn.protocols import Make, Pooling, Stem, Tokens, resize_stem
from attention_notes.nn.sizes import Size, check_channels, check_images, pair
from attention_notes.nn.variants import given, lookup
from attention_notes.nn.vision import Backbone, Indices, linear_head, maps_after
from attention_notes.papers.vit.later import LATER
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
        bias: whether the map has a bias.

    Raises:
        ValueError: if patches do not tile the image, or if it has no channels.
    """

    def __init__(self, dim: int, *, image_size: Size, patch: Size, channels: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.dim, self.channels = dim, check_channels(channels)
        self.patch = pair(patch)
        self.resize(image_size)
        self.projection = nn.Linear(channels * self.patch[0] * self.patch[1], dim, bias=bias)
        nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)
        zero_bias(self.projection)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch[0], self.image_size[1] // self.patch[1]

    def resize(self, image_size: Size) -> None:
        """Expect images of another size, cut into patches of the same size."""
        size = pair(image_size)
        _check_fits(size, self.patch)
        self.image_size = size

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """Cut, flatten, project. Raises ``ValueError`` for images of other channels or another size."""
        check_images(images, self.channels)
        _check_size(images, self.image_size)
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
        qkv_bias: whether U_qkv has a bias.
        attention_dropout: probability of dropping an entry of A.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, qkv_bias: bool = True, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.output = nn.Linear(dim, dim)
        self.attention_dropout = AttentionDropout(attention_dropout)

    def initialise(self, start: Start) -> None:
        """Draw both maps."""
        start(self.qkv, parts=3)
        start(self.output)

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token."""
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        return self.output(rearrange(attention(q, k, v, dropout=self.attention_dropout.rate), "b h n d -> b n (h d)"))


class Block(PreNormBlock):
    """One pre-norm layer of the encoder (equations 2 and 3).

        z'  = MSA(LN(z)) + z
        z'' = MLP(LN(z')) + z'

    Args:
        dim: width ``c`` of the tokens.
        heads: heads of the attention.
        hidden: hidden width of the MLP.
        attention: makes MSA from the width and ``heads``; is told ``qkv_bias=False`` where there is to be none, and
            ``attention_dropout`` where it is above 0.
        mlp: makes MLP from the width, ``hidden`` and ``dropout``, and from ``activation`` where it is given.
        activation: makes the non-linearity of the MLP; ``nn.GELU`` when not given.
        qkv_bias: whether the attention's map to queries, keys and values has a bias.
        dropout: probability of dropping, after every linear map but ``qkv`` (appendix B.1).
        attention_dropout: probability of dropping a weight of the attention, as in the authors' code.
        projection_dropout: probability of dropping what MSA gives; ``dropout`` when not given.
        options: ``drop_path``, ``norm`` and ``layer_scale`` as in ``PreNormBlock``; the paper has none of the last.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        hidden: int,
        attention: Make = SelfAttention,
        mlp: Make = MLP,
        activation: Make | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        projection_dropout: float | None = None,
        **options: Any,
    ) -> None:
        told = given(qkv_bias=None if qkv_bias else False, attention_dropout=attention_dropout or None)
        super().__init__(
            dim,
            attention=attention(dim, heads=heads, **told),
            mlp=mlp(dim, hidden=hidden, dropout=dropout, **given(activation=activation)),
            dropout=dropout if projection_dropout is None else projection_dropout,
            **options,
        )


class ClassToken(nn.Module):
    """A learned token in front of the patches; what it has become at the end stands for the image (section 3.1)."""

    extra = 1
    no_weight_decay = ("token",)

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
    """No extra token: the mean of all tokens, in a row or on a map, stands for the image (appendix D.3)."""

    extra = 0

    def __init__(self, dim: int) -> None:
        super().__init__()

    def prepend(self, patches: Tokens) -> Tokens:
        """Add nothing."""
        return patches

    def forward(self, z: Tokens) -> Float[Tensor, "b c"]:
        """Average over the tokens."""
        return z.mean(dim=tuple(range(1, z.ndim - 1)))


def glorot(layer: nn.Module, *, parts: int = 1) -> None:
    """Glorot's uniform for a linear map, as in the authors' code: each of q, k and v by itself."""
    if isinstance(layer, nn.Linear):
        for weight in layer.weight.chunk(parts):
            nn.init.xavier_uniform_(weight)
        zero_bias(layer)


class VisionTransformer(Backbone):
    """Tokens of patches, a Transformer encoder, and a head on what the pooling reads (equations 1 to 4).

        z_0 = [x_class; x_p^1 E; ...; x_p^N E] + E_pos
        z_l = Block_l(z_{l-1}),  l = 1 ... L
        y   = LN(z_L)^0

    Args:
        patches: turns images into tokens of width ``patches.dim``, one for each cell of ``patches.grid``.
        depth: number of layers L.
        heads: heads of each attention.
        hidden: hidden width of each MLP.
        num_classes: width of the output; ``None`` for no head: the model then returns y, of width ``c``.
        pooling: makes what stands for the image, from the width: ``ClassToken`` or ``MeanPooling``.
        dropout: probability of dropping, also after the position embeddings are added (appendix B.1).
        drop_path: probability of skipping a branch of the last block in training, growing from none at the first.
        block: makes a layer from the width, ``heads``, ``hidden``, ``dropout``, ``drop_path`` and ``options``.
        norm: makes every norm from its width, also those of the blocks; ``layer_norm`` when not given.
        pre_norm: whether a norm stands before the blocks (CLIP, Radford et al. 2021).
        registers: number of learned tokens behind the class token that have no position and that nobody reads at the
            end (Darcet et al. 2023, arXiv 2309.16588).
        class_position: whether the pooling's own token has a position; in DeiT III it has none.
        options: of ``block``; those of ``Block`` are ``attention``, ``mlp``, ``activation``, ``qkv_bias``,
            ``layer_scale``, ``attention_dropout`` and ``projection_dropout``.

    Raises:
        ValueError: if ``num_classes`` is neither None nor 1 or more.
    """

    no_weight_decay = ("positions", "registers")
    registers: nn.Parameter | None

    def __init__(
        self,
        patches: Stem,
        *,
        depth: int,
        heads: int,
        hidden: int,
        num_classes: int | None,
        pooling: Callable[[int], Pooling] = ClassToken,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        block: Make = Block,
        norm: Make | None = None,
        pre_norm: bool = False,
        registers: int = 0,
        class_position: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.patches = patches
        dim, (rows, columns) = patches.dim, patches.grid
        self.num_features = dim
        self.pooling = pooling(dim)
        self.placed = self.pooling.extra if class_position else 0
        self.positions = nn.Parameter(torch.empty(1, rows * columns + self.placed, dim).normal_(std=0.02))
        self.register_parameter("registers", _registers(registers, dim) if registers else None)
        self.dropout = nn.Dropout(dropout)
        options |= {"heads": heads, "hidden": hidden, "dropout": dropout, **given(norm=norm)}
        norm = norm or layer_norm
        self.pre_norm = norm(dim) if pre_norm else nn.Identity()
        rates = depth_rates(drop_path, depth)
        self.blocks = Blocks(*(block(dim, drop_path=rate, **options) for rate in rates))
        self.norm = norm(dim)
        self.head = linear_head(dim, num_classes)
        self.initialise(glorot)
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)

    def initialise(self, start: Start) -> None:
        """Draw the linear maps of blocks and head anew; stem, pooling and norms stay as they made themselves."""
        initialise(*self.blocks, start=start)
        start(self.head)

    def embed(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """The tokens that enter the blocks, z_0: first the class token and the registers, where there are such."""
        z = self.dropout(self.pooling.prepend(self.patches(images)) + self._places())
        return self.pre_norm(self._registered(z))

    def tokens(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """All tokens after the last norm, in the order of ``embed``."""
        z = self.embed(images)
        return self.norm(self.blocks(z))

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b c gy gx"]]:
        """The patch tokens after each block, on their grid, as in ``VisionModel``; the last norm is not applied."""
        z = self.embed(images)
        return maps_after(self.blocks, z, out_indices, run=self.blocks.run, as_map=self._on_grid)

    def read(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b *_"]:
        """What the pooling reads from all tokens but the registers."""
        if self.registers is not None:
            extra, count = self.pooling.extra, self.registers.shape[1]
            tokens = torch.cat([tokens[:, :extra], tokens[:, extra + count :]], dim=1)
        return self.pooling(tokens)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or what stands for the image where the model has no head."""
        return self.head(self.read(self.tokens(images)))

    def resize(self, image_size: Size) -> "VisionTransformer":
        """Make the model, in place, expect another image size, its position embeddings interpolated (section 3.2).

        Raises:
            ValueError: if patches do not tile an image of that size.
            TypeError: if the stem is of one size only.
        """
        old = self.patches.grid
        resize_stem(self.patches, image_size)
        positions = resize_positions(self.positions.detach(), grid=old, to=self.patches.grid, extra=self.placed)
        if self.patches.grid != old:
            self.positions = nn.Parameter(positions, requires_grad=self.positions.requires_grad)
        return self

    def _on_grid(self, z: Tensor) -> Tensor:
        """The tokens of the patches as a map."""
        extra = self.pooling.extra + (0 if self.registers is None else self.registers.shape[1])
        return z[:, extra:].mT.unflatten(2, self.patches.grid)

    def _places(self) -> Tensor:
        """The positions, with zeros for a class token that has none."""
        bare = self.pooling.extra - self.placed
        return F.pad(self.positions, (0, 0, bare, 0)) if bare else self.positions

    def _registered(self, z: Tensor) -> Tensor:
        """The registers put behind the class token."""
        if self.registers is None:
            return z
        extra = self.pooling.extra
        return torch.cat([z[:, :extra], self.registers.expand(len(z), -1, -1), z[:, extra:]], dim=1)


def _registers(count: int, dim: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(1, count, dim).normal_(std=1e-6))


def resize_positions(
    positions: Float[Tensor, "1 n c"], *, grid: tuple[int, int], to: tuple[int, int], extra: int = 1
) -> Float[Tensor, "1 m c"]:
    """Interpolate learned position embeddings to another grid of patches, in two dimensions (section 3.2).

    Bicubic, with antialiasing when the grid shrinks; the first ``extra`` rows belong to no patch and stay.

    Raises:
        ValueError: if the ``n`` rows are not ``extra`` and one for each cell of ``grid``.
    """
    grid, to = pair(grid), pair(to)
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
NAMED = VARIANTS | LATER


@pretrainable
def vit(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size = 224,
    channels: int = 3,
    **overrides: Any,
) -> VisionTransformer:
    """A Vision Transformer by its name, such as ``"B/16"``: the base size, on patches of 16 pixels.

    Args:
        variant: a key of ``VARIANTS`` or, for later papers' models, of ``LATER``: ``"S/14 DINOv2 registers"``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: any of ``dim``, ``depth``, ``heads``, ``hidden``, ``patch``, ``patch_bias`` (whether the map of the
            patches has a bias), and any other argument of ``VisionTransformer``, as ``pooling``, ``drop_path``,
            ``layer_scale``, ``registers``, ``block``.

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    options = {**lookup(NAMED, variant), **overrides}
    cut = {"image_size": image_size, "patch": options.pop("patch"), "channels": channels}
    patches = PatchEmbedding(options.pop("dim"), **cut, bias=options.pop("patch_bias", True))
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


def _check_size(images: Tensor, size: tuple[int, int]) -> None:
    y, x = images.shape[2:]
    if (y, x) != size:
        raise ValueError(
            f"images of {y} x {x}, but the model was built for {size[0]} x {size[1]}: build it with "
            f"image_size=({y}, {x}), resize the images, or call model.resize(({y}, {x}))"
        )
