"""Going deeper with Image Transformers.

Touvron et al. 2021, arXiv 2103.17239. The idea: a deep image Transformer trains if every residual branch starts small,
channel by channel, and the class token joins late, in layers of its own in which it alone looks at the patches.

The paper's SA is ``TalkingHeads`` and its CA ``ClassAttention``; FFN and LayerScale are those of ``nn``.

Departures:
    - None in what is computed, and none in how the weights start: as in the authors' code, the map of the patches
      keeps PyTorch's start for a convolution, the rest comes from a truncated normal distribution.
    - The heads are mixed by one product of matrices, ``b`` times ``h h`` by ``h (n n)``, where the authors' code lays
      the scores out anew, four times a layer, for a linear map over the heads. The numbers are the same.
    - Only the class token passes the last norm; the authors' code normalises the patches too, and drops them.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.initialise import Start, initialise, truncated_normal
from attention_notes.nn.mixing import mix_heads
from attention_notes.nn.protocols import Make, Stem
from attention_notes.nn.sizes import Size
from attention_notes.nn.variants import given, lookup
from attention_notes.papers.vit import Block, PatchEmbedding, SelfAttention, VisionTransformer
from attention_notes.weights.pretrained import pretrainable


class TalkingHeads(SelfAttention):
    """Self-attention whose heads are mixed before and after the softmax (Shazeer et al. 2020, arXiv 2003.02436).

        S_i = q_i k_iᵀ / √d
        P_i = softmax(Σ_j L_ij S_j + l_i)
        O_i = (Σ_j W_ij P_j + w_i) v_i

    ``i`` and ``j`` are heads. The rows of P_i sum to one, and ``record_attention`` keeps P. The rows of what multiplies
    the values need not: W may hold any numbers. The bias ``l`` has no effect, as a softmax does not see what is added
    to all of its row; it is there because the authors' weights have one.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.
        options: ``qkv_bias`` and ``attention_dropout`` of ``SelfAttention``. What is dropped are mixed weights.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, **options: Any) -> None:
        super().__init__(dim, heads=heads, **options)
        self.score_map, self.score_bias = _mixing(heads)
        self.weight_map, self.weight_bias = _mixing(heads)

    def initialise(self, start: Start) -> None:
        """Draw all four maps."""
        super().initialise(start)
        for weight, bias in ((self.score_map, self.score_bias), (self.weight_map, self.weight_bias)):
            layer = nn.Linear(self.heads, self.heads, device=weight.device, dtype=weight.dtype)
            start(layer)
            with torch.no_grad():
                weight.copy_(layer.weight)
                bias.copy_(layer.bias)

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token, and every head at what the others found."""
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        scores = mix_heads(q @ k.transpose(-2, -1), self.score_map * q.shape[-1] ** -0.5, self.score_bias)
        weights = self.attention_dropout(mix_heads(scores.softmax(-1), self.weight_map, self.weight_bias))
        return self.output(rearrange(weights @ v, "b h n d -> b n (h d)"))


def _mixing(heads: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.empty(heads, heads).normal_(std=0.02)), nn.Parameter(torch.zeros(heads))


class ClassAttention(MultiHeadAttention):
    """Attention in which the class token alone asks (section on class attention).

        Q   = W_q x_class + b_q,   K = W_k z + b_k,   V = W_v z + b_v,   z = [x_class; x_patches]
        A   = softmax(Q Kᵀ / √(d / h))
        out = W_o A V + b_o

    One row of weights for each head: the cost grows linearly with the number of patches.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def forward(self, z: Float[Tensor, "b m c"]) -> Float[Tensor, "b 1 c"]:  # type: ignore[override]
        """What the class token, the first of ``m = 1 + n``, takes from all."""
        return super().forward(z[:, :1], z)


class ClassAttentionBlock(Block):
    """A layer that changes the class token and leaves the patches as they are.

        x_class' = x_class  + diag(λ)  CA(LN([x_class; x_patches]))
        x_class''= x_class' + diag(λ') FFN(LN(x_class'))

    Arguments as in ``Block``; the attention gives a single token.
    """

    def forward(self, z: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """Change the first token."""
        token, patches = z[:, :1], z[:, 1:]
        token = self.drop_path(self.attention_scale(self.dropout(self.attention(self.attention_norm(z))))) + token
        token = self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(token)))) + token
        return torch.cat([token, patches], dim=1)


class ClassAttentionStage(nn.Module):
    """The second stage of the network: a class token that joins after the last patch layer, and its own layers.

    As the pooling of a ``VisionTransformer`` it puts no token in front of the patches, and reads them at the end.

    Args:
        dim: width ``c`` of the tokens.
        depth: number of class-attention layers.
        block: makes one of them from the width and ``options``.
    """

    extra = 0
    no_weight_decay = ("token",)

    def __init__(self, dim: int, *, depth: int, block: Make = ClassAttentionBlock, **options: Any) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = Blocks(*(block(dim, **options) for _ in range(depth)))

    def initialise(self, start: Start) -> None:
        """Draw the maps of the layers."""
        initialise(*self.blocks, start=start)

    def prepend(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Add nothing."""
        return patches

    def forward(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
        """What the class token has become after its layers."""
        z = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.blocks(z)[:, 0]


class CaiT(VisionTransformer):
    """Patches attend to each other in many layers; then a class token looks at them in a few.

        x_0 = [x_p^1 E; ...; x_p^N E] + E_pos
        x_l' = x_{l-1} + diag(λ_l)  SA(LN(x_{l-1})),   x_l = x_l' + diag(λ_l') FFN(LN(x_l'))     equation 4
        y   = LN(CA stage(x_class, x_L))

    Args:
        patches: as in ``VisionTransformer``.
        depth: number of patch layers.
        class_depth: number of class-attention layers.
        heads: heads of each attention.
        hidden: hidden width of each MLP.
        num_classes: as in ``VisionTransformer``.
        layer_scale: what all λ start at; ``None`` for no factors.
        drop_path: probability of skipping a branch in training, the same in every patch layer; in no other.
        block: makes a patch layer, as in ``VisionTransformer``.
        attention: makes SA.
        class_block: makes a class-attention layer, as ``block`` does a patch layer, without dropout.
        class_attention: makes CA.
        norm: makes every norm from its width.
        options: of both kinds of layer, such as ``mlp``, ``activation`` and ``qkv_bias``; and of
            ``VisionTransformer``, such as ``dropout``, and of the patch layers alone ``attention_dropout`` and
            ``projection_dropout``.

    Raises:
        ValueError: as ``VisionTransformer``.
    """

    pooling: ClassAttentionStage

    def __init__(
        self,
        patches: Stem,
        *,
        depth: int,
        class_depth: int,
        heads: int,
        hidden: int,
        num_classes: int | None,
        layer_scale: float | None,
        drop_path: float = 0.0,
        block: Make = Block,
        attention: Make = TalkingHeads,
        class_block: Make = ClassAttentionBlock,
        class_attention: Make = ClassAttention,
        norm: Make | None = None,
        **options: Any,
    ) -> None:
        both: dict[str, Any] = {"heads": heads, "hidden": hidden, "layer_scale": layer_scale, **given(norm=norm)}
        shared: dict[str, Any] = {name: options[name] for name in ("mlp", "activation", "qkv_bias") if name in options}

        def stage(dim: int) -> ClassAttentionStage:
            made: dict[str, Any] = {"block": class_block, "attention": class_attention, **both, **shared}
            return ClassAttentionStage(dim, depth=class_depth, **made)

        def layer(dim: int, **told: Any) -> nn.Module:
            return block(dim, **(told | {"drop_path": drop_path}))

        options |= {"depth": depth, "num_classes": num_classes, "attention": attention, **both}
        super().__init__(patches, pooling=stage, block=layer, **options)
        for name in ("pooling", "norm", "head"):  # in the order in which they run, as ``parameter_groups`` needs it
            self.add_module(name, self._modules.pop(name))

    def initialise(self, start: Start) -> None:
        """Draw the maps of both stages and of the head anew."""
        super().initialise(start)
        self.pooling.initialise(start)

    def tokens(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b n c"]:
        """The patches after their last layer, which the class token is going to look at; no norm is applied."""
        return self.blocks(self.embed(images))

    def read(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b *_"]:
        """The class token after its layers and the last norm."""
        return self.norm(super().read(tokens))


# The authors' cait_models.py has the sizes and starts of XXS24, XXS36, XS24, S24, S36, M36 and M48. XS36, S48 and M24
# are of the paper's table of models. Rates of stochastic depth, and these three starts, as two reimplementations have
# them from that table: the authors' code names neither.
_SIZES: dict[str, dict[str, int]] = {
    "XXS": {"dim": 192, "heads": 4, "hidden": 768},
    "XS": {"dim": 288, "heads": 6, "hidden": 1152},
    "S": {"dim": 384, "heads": 8, "hidden": 1536},
    "M": {"dim": 768, "heads": 16, "hidden": 3072},
}
_STARTS: dict[str, tuple[float, float, tuple[int, ...]]] = {  # stochastic depth, LayerScale, sizes of images
    "XXS24": (0.05, 1e-5, (224, 384)),
    "XXS36": (0.1, 1e-5, (224, 384)),
    "XS24": (0.05, 1e-5, (224, 384)),
    "XS36": (0.1, 1e-6, (224,)),
    "S24": (0.1, 1e-5, (224, 384)),
    "S36": (0.2, 1e-6, (224, 384)),
    "S48": (0.3, 1e-6, (224,)),
    "M24": (0.2, 1e-5, (224,)),
    "M36": (0.3, 1e-6, (224, 384)),
    "M48": (0.4, 1e-6, (224, 448)),
}
VARIANTS: dict[str, dict[str, Any]] = {
    # the paper's table of models: all on patches of 16 pixels, with two class-attention layers
    f"{name}{'' if pixels == 224 else f' {pixels}'}": {
        **_SIZES[name.rstrip("0123456789")],
        "depth": int(name.lstrip("XSM")),
        "class_depth": 2,
        "drop_path": drop_path,
        "layer_scale": start,
        "patch": 16,
        "image_size": pixels,
    }
    for name, (drop_path, start, sizes) in _STARTS.items()
    for pixels in sizes
}


@pretrainable
def cait(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size | None = None,
    channels: int = 3,
    **overrides: Any,
) -> CaiT:
    """A CaiT by its name: ``"S24"`` has 24 patch layers of width 384, ``"S24 384"`` more patches.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both; the variant's own when not given.
        channels: channels of the image.
        overrides: ``dim``, ``patch`` and any argument of ``CaiT``, such as ``depth``, ``layer_scale``, ``drop_path``.

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    options = {**lookup(VARIANTS, variant), **overrides}
    size = options.pop("image_size") if image_size is None else image_size
    options.pop("image_size", None)
    patches = PatchEmbedding(options.pop("dim"), image_size=size, patch=options.pop("patch"), channels=channels)
    model = CaiT(patches, num_classes=num_classes, **options)
    patches.projection.reset_parameters()  # as PyTorch starts a convolution
    nn.init.trunc_normal_(model.positions, std=0.02)
    nn.init.trunc_normal_(model.pooling.token, std=0.02)
    model.initialise(truncated_normal)
    return model
