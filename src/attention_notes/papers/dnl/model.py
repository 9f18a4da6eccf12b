"""Disentangled Non-Local Neural Networks.

Yin et al. 2020, arXiv 2006.06668. The idea: the scores of a non-local block are a whitened pairwise term plus a term of
the key alone; give each a softmax and a map of its own, and add, so that neither scales the gradient of the other.

Departures:
    - Biases that cannot act are left out: whitening cancels those of the query and key maps, a softmax cancels that of
      the saliency, and the key's of a non-local block. Its query bias does act (on the unary term), and is there.
    - No pooling of the keys, as in the authors' segmentation models. Of those, the auxiliary loss on an earlier map is
      left out, and the stem of three 3 x 3 convolutions is the plain one of He et al. here.
    - ``scale`` multiplies the pairwise scores, never the unary ones: one in the paper's equations, in the authors'
      configurations also 1 / (t √d) with t = 0.05 for Cityscapes and 0.1 for ADE20K.
    - Queries and keys lose their mean over positions, as in the equations. Of the authors' configurations one does so;
      ``ln_nostd`` takes away one number, the mean over positions and features, and one whitens nothing.
    - Logits are enlarged with ``align_corners=False``; the authors' code has True.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import attention
from attention_notes.nn.initialise import OwnLayers, initialise, zero_bias
from attention_notes.nn.variants import lookup
from attention_notes.nn.vision import check_classes
from attention_notes.papers.resnet import convolution, resnet
from attention_notes.weights.pretrained import pretrainable


def whitened(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Take away the mean over positions, x_i - μ. (The paper's word; there is no variance to divide by.)"""
    return x - x.mean(dim=-2, keepdim=True)


def pairwise_term(q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """(q_i - μ_q)ᵀ(k_j - μ_k): what a query and a key have for each other. Every row and every column sums to zero."""
    return whitened(q) @ whitened(k).mT


def unary_term(q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b m"]:
    """μ_qᵀ k_j: what all queries together have for key j, the mean of q_iᵀ k_j over the queries i."""
    return (q.mean(dim=-2, keepdim=True) @ k.mT).squeeze(-2)


class Pairwise(OwnLayers):
    """The whitened pairwise term alone: y_i = Σ_j σ((q_i - μ_q)ᵀ(k_j - μ_k)) v_j, with q = W_q x and k = W_k x.

    Args:
        channels: channels ``c`` of the input.
        inner: width ``d`` of queries and keys; half the channels when not given.
        scale: factor on the scores.
    """

    def __init__(self, channels: int, *, inner: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.query = nn.Linear(channels, inner or channels // 2, bias=False)
        self.key = nn.Linear(channels, inner or channels // 2, bias=False)

    def forward(self, x: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Average the values, for each query by its own weights."""
        return _attend(whitened(self.query(x)), whitened(self.key(x)), v, self.scale)


class Unary(OwnLayers):
    """The unary term alone, with a map of its own: y = Σ_j σ(m_j) v_j with m = W_m x, the same y for every query.

    A single query, the number 1, serves all positions: its scores are the m_j.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.saliency = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]) -> Float[Tensor, "b 1 c"]:
        """Average the values once, by weights that all queries share."""
        m = self.saliency(x)
        return _attend(torch.ones_like(m[:, :1]), m, v, 1.0)


class Disentangled(OwnLayers):
    """Both terms, each in a softmax of its own, added (section 4).

        y_i = Σ_j (γ σ((q_i - μ_q)ᵀ(k_j - μ_k)) + σ(m_j)) v_j

    γ, a learned number that starts at zero, is in the authors' code only: in the paper's equation it is one.

    Args:
        channels, inner, scale: as in ``Pairwise``.
    """

    def __init__(self, channels: int, *, inner: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.pairwise = Pairwise(channels, inner=inner, scale=scale)
        self.unary = Unary(channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Add what the two terms gather."""
        return self.gamma * self.pairwise(x, v) + self.unary(x, v)


class Coupled(OwnLayers):
    """The attention of a non-local block, both terms in one softmax and with one W_k: y_i = Σ_j σ(q_iᵀ k_j) v_j.

    Args:
        channels, inner, scale: as in ``Pairwise``; here the query has a bias.
    """

    def __init__(self, channels: int, *, inner: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.query = nn.Linear(channels, inner or channels // 2)
        self.key = nn.Linear(channels, inner or channels // 2, bias=False)

    def forward(self, x: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Average the values by the softmax of the plain scores."""
        return _attend(self.query(x), self.key(x), v, self.scale)


class Multiplied(OwnLayers):
    """Half way: still one softmax, but the unary term has its own map: y_i = Σ_j σ((q_i - μ_q)ᵀ(k_j - μ_k) + m_j) v_j.

    The saliency travels as one more feature of the keys, on which every query has a one: no mask of n x n numbers.
    """

    def __init__(self, channels: int, *, inner: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.pairwise = Pairwise(channels, inner=inner, scale=scale)
        self.saliency = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Average the values by the product of both terms."""
        m = self.saliency(x)
        q = torch.cat([whitened(self.pairwise.query(x)) * self.pairwise.scale, torch.ones_like(m)], dim=-1)
        k = torch.cat([whitened(self.pairwise.key(x)), m], dim=-1)
        return _attend(q, k, v, 1.0)


class Added(OwnLayers):
    """Half way, from the other side: two softmaxes, but one W_k for both.

        y_i = Σ_j (γ σ((q_i - μ_q)ᵀ(k_j - μ_k)) + σ(μ_qᵀ k_j)) v_j

    Args:
        channels, inner: as in ``Coupled``; γ as in ``Disentangled``.
        scale: factor on the pairwise scores; the unary scores have none, as in the authors' code.
    """

    def __init__(self, channels: int, *, inner: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.coupled = Coupled(channels, inner=inner, scale=scale)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b n c"], v: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Add what the two terms gather."""
        q, k, scale = self.coupled.query(x), self.coupled.key(x), self.coupled.scale
        pairwise = _attend(whitened(q), whitened(k), v, scale)
        return self.gamma * pairwise + _attend(q.mean(dim=1, keepdim=True), k, v, 1.0)


class DNL(nn.Module):
    """A disentangled non-local block: z = x + attention(x, W_v x). Works on a line, an image or a clip.

    Args:
        channels: channels ``c`` of the map, which keeps its shape.
        attention: makes the module that gathers the values, from the number of channels: ``Disentangled``, the paper's
            ablations ``Coupled``, ``Multiplied``, ``Added``, ``Pairwise``, ``Unary``, or a ``partial`` of one of them.

    Raises:
        ValueError: if a map has other channels.
    """

    def __init__(self, channels: int, *, attention: Callable[[int], nn.Module] = Disentangled) -> None:
        super().__init__()
        self.channels = channels
        self.value = nn.Linear(channels, channels, bias=False)
        self.attention = attention(channels)
        _start(self.value)
        initialise(self.attention, start=_start)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Let every position look at every position, and add what it found."""
        if x.shape[1] != self.channels:
            raise ValueError(f"a map of {x.shape[1]} channels, but the block was built for {self.channels}")
        tokens = x.flatten(2).transpose(1, 2)
        y = self.attention(tokens, self.value(tokens)).expand_as(tokens)
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class DNLNet(nn.Module):
    """A network that names every pixel, with a block in its head (section 5.1, and the authors' code).

        u      = convolution(reduce(f))       f the last map of the backbone, the block between the two
        logits = classify(bottleneck([f; u]))

    All three are 3 x 3 convolutions with a norm and a rectifier; the logits are brought to the size of the image.

    Args:
        backbone: a network whose ``features(images)`` are maps, the last of ``widths[-1]`` channels.
        num_classes: classes of a pixel; ``None`` for its features, what the last layer would be given.
        dim: width of the head; a quarter of the backbone's when not given.
        block: makes the block from its channels: ``DNL``, a ``partial`` of it, or any module that keeps the shape.
        dropout: probability of dropping a channel before the last layer.

    Raises:
        ValueError: if ``num_classes`` is neither None nor 1 or more.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        num_classes: int | None,
        dim: int | None = None,
        block: Callable[[int], nn.Module] = DNL,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width, classes = backbone.widths[-1], check_classes(num_classes)
        dim = width // 4 if dim is None else dim
        self.backbone = backbone
        self.reduce = nn.Sequential(convolution(width, dim, 3), nn.ReLU())
        self.block = block(dim)
        self.convolution = nn.Sequential(convolution(dim, dim, 3), nn.ReLU())
        self.bottleneck = nn.Sequential(convolution(width + dim, dim, 3), nn.ReLU(), nn.Dropout2d(dropout))
        self.classify = nn.Identity() if classes is None else nn.Conv2d(dim, classes, 1)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k y x"]:
        """Logits of the ``k`` classes of every pixel."""
        f = self.backbone.features(images)[-1]
        u = self.convolution(self.block(self.reduce(f)))
        logits = self.classify(self.bottleneck(torch.cat([f, u], dim=1)))
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


VARIANTS: dict[str, dict[str, Any]] = {
    # section 5.1 and the authors' configurations: the last two stages dilated, so that the last map has stride 8
    "resnet50": {"backbone": "resnet50", "dilations": (1, 1, 2, 4)},
    "resnet101": {"backbone": "resnet101", "dilations": (1, 1, 2, 4)},
}


@pretrainable
def dnl(variant: str, *, num_classes: int | None = 19, **overrides: Any) -> DNLNet:
    """A segmentation network by its backbone, such as ``"resnet101"``; 19 classes as in Cityscapes.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: classes of a pixel; ``None`` for its features.
        overrides: any of ``dim``, ``block`` and ``dropout``.

    Raises:
        ValueError: if the variant is unknown.
    """
    options = lookup(VARIANTS, variant)
    backbone: Any = resnet(options["backbone"], dilations=options["dilations"])
    backbone.head = nn.Identity()  # it named whole images
    return DNLNet(backbone, num_classes=num_classes, **overrides)


def _start(layer: nn.Module, *, parts: int = 1) -> None:
    """Linear maps start small, as in the authors' code."""
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
        zero_bias(layer)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """One head. The fused kernel needs four axes and one width: zeros that widen q, k or v change no score."""
    width = v.shape[-1]
    widest = max(q.shape[-1], width)
    q, k, v = (F.pad(rearrange(t, "b n d -> b 1 n d"), (0, widest - t.shape[-1])) for t in (q, k, v))
    return rearrange(attention(q, k, v, scale=scale)[..., :width], "b 1 n d -> b n d")
