"""Scaling Vision Transformers.

Zhai et al. 2021, arXiv 2106.04560, with ViT-g and ViT-G; ViT-e of PaLI, Chen et al. 2022, arXiv 2209.06794; ViT-22B,
Dehghani et al. 2023, arXiv 2302.05442. The idea: keep the Vision Transformer, make all of its sizes larger together,
and change only what keeps it from growing: the class token and, at 22 billion parameters, the order of attention and
perceptron, some biases, and scores without a bound.

Departures:
    - The last linear map starts small where the authors' code (big_vision) starts it at zero, so that the output of an
      untrained model depends on its input. Biases of perceptrons start at zero, there with a deviation of 1e-6.
    - GELU is computed exactly, as in ``vit``; the authors' code takes JAX's approximation by tanh.
    - The authors published no code for ViT-22B. Queries and keys are normalised head by head, by layer norms with gains
      and without biases, as in Flax, whose option ``normalize_qk`` names the paper. The paper is reported to leave out
      the centring in all of its norms, too, which makes them RMSNorms: give ``norm``, and an ``attention`` with that
      norm. Of queries, keys, values and norms it is said that they have no bias; all other maps have one here.
    - ViT-22B pools as ViT-G does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import MultiHeadAttention, attention
from attention_notes.nn.initialise import Start, initialise
from attention_notes.nn.mlp import MLP
from attention_notes.nn.norms import layer_norm
from attention_notes.nn.protocols import Make, Pooling, Stem
from attention_notes.nn.sizes import Size
from attention_notes.nn.variants import given, lookup
from attention_notes.papers.vit import Block, PatchEmbedding, SelfAttention, VisionTransformer
from attention_notes.weights.pretrained import pretrainable

scale_norm = partial(nn.LayerNorm, eps=1e-6, bias=False)  # a layer norm with gains alone


class ProbeAttention(MultiHeadAttention):
    """The attention of a MAP head: its class tells that its one query, the probe, is no token of the image."""


class AttentionPooling(nn.Module):
    """Multi-head attention pooling, the MAP head (section 3.2): one learned token, the probe, looks at all others.

        Q = W_q probe + b_q,   K = W_k z + b_k,   V = W_v z + b_v
        u = W_o softmax(Q Kᵀ / √d) V + b_o                          in heads of width d
        y = u + MLP(LN(u))

    As the pooling of a ``VisionTransformer`` it puts no token in front of the patches: there are 256 of them at 224
    pixels and patches of 14, and not 257. One row of weights for each head, whatever the number of tokens.

    Args:
        dim: width ``c`` of the tokens and of the probe.
        heads: heads of the attention.
        hidden: hidden width of the MLP.
        attention: makes what is called with the probe, ``b 1 c``, and the tokens, from the width and ``heads``.
        mlp: makes MLP from the width, ``hidden`` and ``dropout``, which is none, and from ``activation`` if given.
        activation: makes the non-linearity of the MLP; ``nn.GELU`` when not given.
        norm: makes LN from the width.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    extra = 0
    no_weight_decay = ("token",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        hidden: int,
        attention: Make = ProbeAttention,
        mlp: Make = MLP,
        activation: Make | None = None,
        norm: Make = layer_norm,
    ) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.xavier_uniform_(self.token[0])
        self.attention = attention(dim, heads=heads)
        self.mlp_norm = norm(dim)
        self.mlp = mlp(dim, hidden=hidden, dropout=0.0, **given(activation=activation))

    def initialise(self, start: Start) -> None:
        """Draw the attention and the perceptron; the probe keeps its own start."""
        initialise(self.attention, self.mlp, start=start)

    def prepend(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Add nothing."""
        return patches

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
        """Read all tokens, in no order."""
        u = self.attention(self.token.expand(z.shape[0], -1, -1), z)
        return (u + self.mlp(self.mlp_norm(u)))[:, 0]


class NormalisedAttention(SelfAttention):
    """Self-attention whose queries and keys are normalised, head by head (ViT-22B, query/key normalization).

        A = softmax(LN(z W_q) LN(z W_k)ᵀ / √d)

    A layer norm without bias makes vectors that are no longer than √d times their largest gain. So no score is larger
    than √d times the largest product γᵢ γ'ᵢ of a gain of the queries and that of the keys, whatever the tokens and the
    maps.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads ``h``; must divide ``dim``; a head has the width ``d = c / h``.
        norm: makes both norms from ``d``; all heads share them.
        options: ``qkv_bias`` and ``attention_dropout`` of ``SelfAttention``.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, *, heads: int, norm: Make = scale_norm, **options: Any) -> None:
        super().__init__(dim, heads=heads, **options)
        self.query_norm = norm(dim // heads)
        self.key_norm = norm(dim // heads)

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token."""
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        q, k = self.query_norm(q), self.key_norm(k)
        return self.output(rearrange(attention(q, k, v, dropout=self.attention_dropout.rate), "b h n d -> b n (h d)"))


class ParallelBlock(Block):
    """A layer whose attention and perceptron read the same normalised tokens (ViT-22B, parallel layers).

        z' = LN(z)
        y  = z + MLP(z') + Attention(z')

    Arguments as in ``Block``; there is one norm, and ``drop_path`` skips both branches or none.
    """

    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(dim, **options)
        del self.mlp_norm

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Mix the tokens and change each by itself, side by side."""
        normal = self.attention_norm(z)
        mixed = self.attention_scale(self.dropout(self.attention(normal)))
        return self.drop_path(mixed + self.mlp_scale(self.mlp(normal))) + z


class ScalingViT(VisionTransformer):
    """A Vision Transformer without a class token, read by a MAP head.

        z_0 = [x_p^1 E; ...; x_p^N E] + E_pos
        z_l = Block_l(z_{l-1}),  l = 1 ... L
        y   = MAP(LN(z_L))

    Args:
        patches: as in ``VisionTransformer``.
        heads: heads of each attention, the pooling's too.
        hidden: hidden width of each MLP, the pooling's too.
        pooling: makes what reads the tokens, from the width: ``AttentionPooling`` of the same sizes when not given.
        norm: makes every norm but those of queries and keys from its width; ``layer_norm`` when not given.
        options: of ``VisionTransformer``, such as ``depth``, ``num_classes``, ``block`` and ``attention``; the pooling
            has ``mlp`` and ``activation`` in common with the blocks.

    Raises:
        ValueError: as ``VisionTransformer``.
    """

    def __init__(
        self,
        patches: Stem,
        *,
        heads: int,
        hidden: int,
        pooling: Callable[[int], Pooling] | None = None,
        norm: Make | None = None,
        **options: Any,
    ) -> None:
        shared = given(norm=norm, mlp=options.get("mlp"), activation=options.get("activation"))

        def probing(dim: int) -> AttentionPooling:
            return AttentionPooling(dim, heads=heads, hidden=hidden, **shared)

        super().__init__(patches, heads=heads, hidden=hidden, pooling=pooling or probing, norm=norm, **options)
        nn.init.normal_(self.positions, std=patches.dim**-0.5)
        for name in ("norm", "pooling", "head"):  # in the order in which they run, as ``parameter_groups`` needs it
            self.add_module(name, self._modules.pop(name))

    def initialise(self, start: Start) -> None:
        """Draw the linear maps of blocks, head and pooling anew."""
        super().initialise(start)
        initialise(self.get_submodule("pooling"), start=start)


_22B: dict[str, Any] = {
    "block": ParallelBlock,
    "attention": NormalisedAttention,
    "qkv_bias": False,
    "norm": scale_norm,
}
VARIANTS: dict[str, dict[str, Any]] = {
    # Zhai et al. 2021, table 2
    "s/28": {"dim": 256, "depth": 6, "heads": 8, "hidden": 1024, "patch": 28},
    "s/16": {"dim": 256, "depth": 6, "heads": 8, "hidden": 1024, "patch": 16},
    "S/32": {"dim": 384, "depth": 12, "heads": 6, "hidden": 1536, "patch": 32},
    "Ti/16": {"dim": 192, "depth": 12, "heads": 3, "hidden": 768, "patch": 16},
    "B/32": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072, "patch": 32},
    "S/16": {"dim": 384, "depth": 12, "heads": 6, "hidden": 1536, "patch": 16},
    "B/28": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072, "patch": 28},
    "B/16": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072, "patch": 16},
    "L/16": {"dim": 1024, "depth": 24, "heads": 16, "hidden": 4096, "patch": 16},
    "g/14": {"dim": 1408, "depth": 40, "heads": 16, "hidden": 6144, "patch": 14},
    "G/14": {"dim": 1664, "depth": 48, "heads": 16, "hidden": 8192, "patch": 14},
    # Chen et al. 2022; sizes of "e" in ``decode_variant`` of big_vision
    "e/14": {"dim": 1792, "depth": 56, "heads": 16, "hidden": 15360, "patch": 14},
    # Dehghani et al. 2023, table 1
    "22B/14": {"dim": 6144, "depth": 48, "heads": 48, "hidden": 24576, "patch": 14, **_22B},
}


@pretrainable
def scaling_vit(
    variant: str,
    *,
    num_classes: int | None = 1000,
    image_size: Size = 224,
    channels: int = 3,
    **overrides: Any,
) -> ScalingViT:
    """A Vision Transformer of the scaling papers by its name: ``"G/14"`` has two billion parameters.

    The large ones are best made on the meta device, ``with torch.device("meta"): ...``: ``"22B/14"`` has 89 GB in
    float32. Any smaller model is made by overriding the sizes of a variant.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        image_size: height and width in pixels, or one number for both.
        channels: channels of the image.
        overrides: ``dim``, ``patch``, ``patch_bias`` (whether the map of the patches has a bias) and any argument of
            ``ScalingViT``, such as ``depth``, ``heads``, ``hidden``, ``pooling``, ``block``, ``attention``.

    Raises:
        ValueError: if the variant is unknown, or if its patches do not tile the image.
    """
    options = {**lookup(VARIANTS, variant), **overrides}
    cut = {"image_size": image_size, "patch": options.pop("patch"), "channels": channels}
    patches = PatchEmbedding(options.pop("dim"), **cut, bias=options.pop("patch_bias", True))
    return ScalingViT(patches, num_classes=num_classes, **options)
