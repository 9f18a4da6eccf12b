"""Non-local Neural Networks.

Wang, Girshick, Gupta and He 2018, arXiv 1711.07971. The idea: let the response at one position of a feature map be a
weighted mean of the features at all positions, in space, time or both, and add that to a convolutional network as a
residual block.

Departures:
    - No pairwise function holds its N x N map: the Gaussian ones run on the fused kernel, the dot product multiplies
      the other two factors first, and the concatenation sorts. ``weights`` gives the literal map for looking.
    - W_z has no bias where a batch norm follows it, which cancels it in training. To load weights that have that
      bias, subtract it from the running mean.
    - Subsampling pools x before phi and g, as section 3.3's formula and the authors' code do; ``embed_then_pool`` is
      the last sentence of that section, which is another function.
    - The scores are not divided by the root of the width, as in the paper. The authors' code divides:
      ``pairwise=partial(EmbeddedGaussian, scale=inner**-0.5)``.
    - Ten blocks in a ResNet-101 are left out: the paper does not say where they stand.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import attention, attention_weights
from attention_notes.nn.initialise import zero_bias
from attention_notes.nn.sizes import check_images
from attention_notes.nn.variants import lookup
from attention_notes.nn.vision import Backbone, Indices, maps_after
from attention_notes.papers.resnet import ResNet, resnet
from attention_notes.weights.pretrained import pretrainable


class EmbeddedGaussian(nn.Module):
    """f(x_i, x_j) = exp(theta(x_i) · phi(x_j)), C(x) = sum_j f(x_i, x_j): a softmax over j (equation 3).

    Args:
        inner: width ``d`` of the embeddings.
        scale: factor on the scores; one in the paper.
    """

    embeds = True

    def __init__(self, inner: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def weights(self, theta: Float[Tensor, "b n d"], phi: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
        """The literal map f / C."""
        return attention_weights(theta, phi, scale=self.scale)

    def forward(
        self, theta: Float[Tensor, "b n d"], phi: Float[Tensor, "b m d"], g: Float[Tensor, "b m dv"]
    ) -> Float[Tensor, "b n dv"]:
        """``weights(theta, phi) @ g`` by the fused kernel."""
        return _softmax_mean(theta, phi, g, scale=self.scale)


class Gaussian(nn.Module):
    """f(x_i, x_j) = exp(x_i · x_j), C(x) = sum_j f(x_i, x_j): the same without embeddings (equation 2)."""

    embeds = False

    def __init__(self, inner: int) -> None:
        super().__init__()

    def weights(self, x: Float[Tensor, "b n c"], other: Float[Tensor, "b m c"]) -> Float[Tensor, "b n m"]:
        """The literal map f / C; ``other`` is x, or what is left of it after subsampling."""
        return attention_weights(x, other, scale=1.0)

    def forward(
        self, x: Float[Tensor, "b n c"], other: Float[Tensor, "b m c"], g: Float[Tensor, "b m dv"]
    ) -> Float[Tensor, "b n dv"]:
        """``weights(x, other) @ g`` by the fused kernel."""
        return _softmax_mean(x, other, g, scale=1.0)


class DotProduct(nn.Module):
    """f(x_i, x_j) = theta(x_i) · phi(x_j), C(x) = m, the number of positions summed over (equation 4)."""

    embeds = True

    def __init__(self, inner: int) -> None:
        super().__init__()

    def weights(self, theta: Float[Tensor, "b n d"], phi: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
        """The literal map f / C. Entries may be negative, and rows sum to anything."""
        return theta @ phi.mT / phi.shape[1]

    def forward(
        self, theta: Float[Tensor, "b n d"], phi: Float[Tensor, "b m d"], g: Float[Tensor, "b m dv"]
    ) -> Float[Tensor, "b n dv"]:
        """``weights(theta, phi) @ g`` as theta (phiᵀ g / m): nothing comes between, so the brackets may move."""
        return theta @ (phi.transpose(1, 2) @ (g / phi.shape[1]))


class Concatenation(nn.Module):
    """f(x_i, x_j) = relu(w_f · [theta(x_i), phi(x_j)]), C(x) = m (equation 5).

    ``weight`` is w_f in its two halves, so that f = relu(a_i + b_j) with one number for each position.
    """

    embeds = True

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, inner) * inner**-0.5)

    def weights(self, theta: Float[Tensor, "b n d"], phi: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
        """The literal map f / C."""
        asks, answers = theta @ self.weight[0], phi @ self.weight[1]
        return (asks[:, :, None] + answers[:, None, :]).relu() / phi.shape[1]

    def forward(
        self, theta: Float[Tensor, "b n d"], phi: Float[Tensor, "b m d"], g: Float[Tensor, "b m dv"]
    ) -> Float[Tensor, "b n dv"]:
        """``weights(theta, phi) @ g`` by sorting."""
        return rectified_sums(theta @ self.weight[0], phi @ self.weight[1], g / phi.shape[1])


def rectified_sums(
    asks: Float[Tensor, "b n"], answers: Float[Tensor, "b m"], g: Float[Tensor, "b m dv"]
) -> Float[Tensor, "b n dv"]:
    """sum_j relu(a_i + b_j) g_j for every i, exactly, in O((n + m) log m) and without the n x m map.

    The rectifier lets through those j with b_j > -a_i: the first k_i when the b_j are sorted downwards. With prefix
    sums G_k of g_j and H_k of b_j g_j in that order, the answer is a_i G_k + H_k at k = k_i.
    """
    exact = torch.promote_types(g.dtype, torch.float32)  # a running sum in bfloat16 would stop growing
    falling, order = answers.to(exact).sort(dim=1, descending=True)
    g_sorted = g.to(exact).gather(1, order[..., None].expand_as(g))
    sums = torch.cat([g_sorted, falling[..., None] * g_sorted], dim=2).cumsum(1)
    sums = F.pad(sums, (0, 0, 1, 0))  # k = 0: nobody passes
    passing = torch.searchsorted(-falling.detach(), asks.detach().to(exact).contiguous())
    plain, weighted = sums.gather(1, passing[..., None].expand(-1, -1, sums.shape[2])).chunk(2, dim=2)
    return (asks.to(exact)[..., None] * plain + weighted).to(g.dtype)


def _softmax_mean(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Attention with one head. Widths are filled up with zeros to the wider one: only then is the kernel fused."""
    width = max(q.shape[-1], v.shape[-1])
    parts = (F.pad(t, (0, width - t.shape[-1]))[:, None].contiguous() for t in (q, k, v))
    return attention(*parts, scale=scale)[:, 0, :, : v.shape[-1]]


Embed = Callable[[Tensor], Tensor]


def pool_then_embed(embed: Embed, pool: Embed, x: Tensor) -> Tensor:
    """phi(x̂), with x̂ the subsampled x."""
    return embed(pool(x))


def embed_then_pool(embed: Embed, pool: Embed, x: Tensor) -> Tensor:
    """Pooling after the embedding: costs more, and is not the same, as a maximum does not commute with a linear map."""
    return pool(embed(x))


_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, Callable[..., nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLS: dict[int, Callable[..., nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class NonLocal(nn.Module):
    """The non-local block (equations 1 and 6).

        y_i = 1 / C(x) sum_j f(x_i, x_j) g(x_j)
        z_i = W_z y_i + x_i

    ``theta``, ``phi`` and ``g`` are 1 x 1 convolutions to width ``d``, ``output`` is W_z, and ``pairwise`` is f / C.
    The block starts as the identity: the scale of its batch norm is zero, or W_z is, where there is no norm.

    Args:
        channels: width ``c`` of the map, in and out.
        dims: axes of positions: 1 for sequences, 2 for images ``b c y x``, 3 for clips ``b c t y x``.
        inner: width ``d`` inside; half of ``channels`` when not given (section 3.3).
        pairwise: makes f / C from ``inner``: ``EmbeddedGaussian``, ``Gaussian``, ``DotProduct``, ``Concatenation``.
        subsample: side of the max-pooling in front of phi and g, in space only (section 3.3); 1 for none.
        subsampling: where that pooling stands, ``pool_then_embed`` or ``embed_then_pool``.
        batch_norm: whether a batch norm follows W_z (section 4.1).

    Raises:
        ValueError: if ``dims`` is not 1, 2 or 3, or a width or ``subsample`` is below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        dims: int = 2,
        inner: int | None = None,
        pairwise: Callable[[int], Any] = EmbeddedGaussian,
        subsample: int = 1,
        subsampling: Callable[[Embed, Embed, Tensor], Tensor] = pool_then_embed,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        inner = channels // 2 if inner is None else inner
        if dims not in _CONVOLUTIONS:
            raise ValueError(f"dims={dims}: a map has 1, 2 or 3 axes of positions")
        if min(inner, subsample) < 1:
            raise ValueError(f"channels={channels}, inner={inner} and subsample={subsample} must be at least 1")
        convolution = _CONVOLUTIONS[dims]
        self.channels, self.dims, self.subsample, self.subsampling = channels, dims, subsample, subsampling
        self.pairwise = pairwise(inner)
        self.theta = convolution(channels, inner, 1) if self.pairwise.embeds else nn.Identity()
        self.phi = convolution(channels, inner, 1) if self.pairwise.embeds else nn.Identity()
        self.g = convolution(channels, inner, 1)
        self.output = convolution(inner, channels, 1, bias=not batch_norm)
        self.norm = _NORMS[dims](channels) if batch_norm else nn.Identity()
        sides = (1, subsample, subsample) if dims == 3 else (subsample,) * dims
        self.pool = _POOLS[dims](sides) if subsample > 1 else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        """He et al.'s normal for the embeddings (section 4.1), zero for what is added."""
        layers: tuple[Any, ...] = (self.theta, self.phi, self.g, self.output)
        for layer in layers:
            if not isinstance(layer, nn.Identity):
                nn.init.kaiming_normal_(layer.weight)
                zero_bias(layer)
        last: Any = self.output if isinstance(self.norm, nn.Identity) else self.norm
        nn.init.zeros_(last.weight)

    def embed(
        self, x: Float[Tensor, "b c *s"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"], Float[Tensor, "b m dv"]]:
        """theta(x), phi(x̂) and g(x̂), one row for each position, row by row.

        Raises:
            ValueError: if ``x`` has other channels or axes than the block was built for, or is too small to pool.
        """
        if x.ndim != 2 + self.dims or x.shape[1] != self.channels:
            raise ValueError(
                f"a map of shape {tuple(x.shape)}, but the block was built for dims={self.dims} and "
                f"channels={self.channels}"
            )
        if min(x.shape[-min(self.dims, 2) :]) < self.subsample:
            raise ValueError(f"a map of {tuple(x.shape[2:])} has nothing left after subsample={self.subsample}")
        phi, g = (self.subsampling(part, self.pool, x) for part in (self.phi, self.g))
        return self.theta(x).flatten(2).transpose(1, 2), phi.flatten(2).transpose(1, 2), g.flatten(2).transpose(1, 2)

    def weights(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n m"]:
        """The literal map f(x_i, x_j) / C(x), for looking; ``forward`` does not hold it."""
        theta, phi, _ = self.embed(x)
        return self.pairwise.weights(theta, phi)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Add to every position the weighted mean over all positions."""
        y = self.pairwise(*self.embed(x))
        return self.norm(self.output(y.transpose(1, 2).unflatten(2, x.shape[2:]))) + x


VARIANTS: dict[str, dict[str, Any]] = {
    # Section 5.1, tables 2a to 2c: after which residual blocks of which stage, counted from 0; stage 1 is res3, 2 is
    # res4. One block stands right before the last residual block; five follow every other one, which in the
    # authors' code is every seventh in the long res4 of a ResNet-101.
    "resnet50-1": {"backbone": "resnet50", "places": {2: (4,)}},
    "resnet50-5": {"backbone": "resnet50", "places": {1: (1, 3), 2: (1, 3, 5)}},
    "resnet50-10": {"backbone": "resnet50", "places": {1: range(4), 2: range(6)}},
    "resnet101-1": {"backbone": "resnet101", "places": {2: (21,)}},
    "resnet101-5": {"backbone": "resnet101", "places": {1: (1, 3), 2: (6, 13, 20)}},
}


def insert(model: ResNet, places: Mapping[int, Sequence[int]], *, block: Callable[[int], nn.Module]) -> ResNet:
    """Put a module, made from its number of channels, after the named residual blocks of the named stages, in place."""
    for stage, after in places.items():
        for index in sorted(after, reverse=True):
            blocks: Any = model.stages[stage]
            blocks.insert(index + 1, block(model.widths[stage]))
    return model


@pretrainable
def non_local_resnet(variant: str, *, num_classes: int | None = 1000, dims: int = 2, **block: Any) -> ResNet:
    """A residual network with non-local blocks, by its name and their number, such as ``"resnet50-5"``.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: width of the output; ``None`` for no head.
        dims: axes of positions of the blocks; 3 for a network that goes into a ``C2D``.
        block: further options of ``NonLocal``; ``subsample`` is 2 unless it is given, as everywhere in the paper.

    Raises:
        ValueError: if the variant is unknown, or if ``num_classes`` is neither None nor 1 or more.
    """
    row, options = lookup(VARIANTS, variant), {"subsample": 2, **block}
    model = resnet(row["backbone"], num_classes=num_classes)
    return insert(model, row["places"], block=lambda c: NonLocal(c, dims=dims, **options))


class C2D(Backbone):
    """A residual network on clips, frame by frame; only two poolings and its non-local blocks see time (table 1).

    Takes every other frame, pools 3 x 3 x 3 after the first convolution and 3 x 1 x 1 after res2: 32 frames
    become 16, 8 and 4. Blocks with ``dims=3`` see space and time, those with ``dims=2`` their own frame.

    Args:
        backbone: a network from ``resnet`` or ``non_local_resnet``; it keeps its parameters and their names.
    """

    head_names = ("backbone.head",)

    def __init__(self, backbone: ResNet) -> None:
        super().__init__()
        self.num_features, self.start_head = backbone.num_features, backbone.start_head
        self.backbone = backbone
        self.pool1 = nn.MaxPool3d(3, stride=2, padding=1)
        self.pool2 = nn.MaxPool3d((3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))

    def features(
        self, clips: Float[Tensor, "b ch t y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b _ _ _ _"]]:
        """The map of every stage, ``b c t y x``. Raises ``ValueError`` for clips of other channels or axes."""
        check_images(clips, self.backbone.channels, axes="b ch t y x")
        x = self.pool1(_framewise(self.backbone.stem[:-1], clips[:, :, ::2]))
        return maps_after(self.backbone.stages, x, out_indices, run=self._run)

    def _run(self, stage: Any, x: Tensor) -> Tensor:
        """One stage; the second begins with a pooling over time."""
        x = self.pool2(x) if stage in [*self.backbone.stages][1:2] else x
        for block in stage:
            spacetime = isinstance(block, NonLocal) and block.dims == 3
            x = stage.run(block, x) if spacetime else _framewise(partial(stage.run, block), x)
        return x

    def forward(self, clips: Float[Tensor, "b ch t y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or what the head would be given where there is none."""
        return self.backbone.head(self.features(clips, [-1])[0].mean((-3, -2, -1)))


def _framewise(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a module for images to every frame of ``b c t y x``."""
    return module(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, x.shape[2])).transpose(1, 2)
