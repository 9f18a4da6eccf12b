"""CBAM: Convolutional Block Attention Module.

Woo et al. 2018, arXiv 1807.06521. The idea: at the end of each residual branch, first weigh the channels, then the
places, each by a gate that is computed from two poolings of the map itself.

Departures:
    - The maps stand in the order of equation 3, average first; the authors' code stacks the maximum first.
    - As in the authors' code, not in the equations: biases in the perceptron, a batch norm after the 7 x 7 convolution
      with a momentum of 0.01, and the start of a network (``initialise``); the paper says nothing of either.
    - ``parallel`` multiplies by both gates; the paper does not say how its parallel arrangement joins them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.initialise import OwnLayers, Start
from attention_notes.nn.initialise import initialise as ask
from attention_notes.nn.variants import lookup
from attention_notes.papers.resnet import VARIANTS as RESNETS
from attention_notes.papers.resnet import Residual, ResNet, resnet
from attention_notes.weights.pretrained import pretrainable

Pool = Callable[[Tensor, tuple[int, ...]], Tensor]


def average(x: Float[Tensor, "b c y x"], over: tuple[int, ...]) -> Float[Tensor, "b _ _ _"]:
    """The mean over some axes, which stay with size one."""
    return x.mean(over, keepdim=True)


def maximum(x: Float[Tensor, "b c y x"], over: tuple[int, ...]) -> Float[Tensor, "b _ _ _"]:
    """The largest value over some axes, which stay with size one."""
    return x.amax(over, keepdim=True)


class ChannelAttention(nn.Module):
    """Which channels matter: one gate for each, from what the whole map holds of it (equation 2).

        M_c(F) = σ(MLP(AvgPool(F)) + MLP(MaxPool(F))),   MLP(s) = W_1 relu(W_0 s)

    One perceptron for all poolings, of ``nn.Linear`` as in the authors' code: a ``ResNet`` draws the weights of its
    convolutions anew, and leaves those alone. With ``pools=(average,)`` it is squeeze-and-excitation (Hu et al. 2018).

    Args:
        channels: channels C of the map.
        reduction: the hidden layer has C / r units.
        pools: what is read of each channel.

    Raises:
        ValueError: if the hidden layer would be empty.
    """

    def __init__(self, channels: int, *, reduction: int = 16, pools: Sequence[Pool] = (average, maximum)) -> None:
        super().__init__()
        if channels < reduction:
            raise ValueError(f"channels={channels} leave no hidden unit at reduction={reduction}")
        self.pools = tuple(pools)
        hidden = channels // reduction
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c 1 1"]:
        """The gates M_c, between 0 and 1."""
        scores = torch.stack([self.mlp(pool(x, (-2, -1)).flatten(1)) for pool in self.pools]).sum(0)
        return scores.sigmoid()[..., None, None]


class SpatialAttention(OwnLayers):
    """Which places matter: one gate for each, from what its neighbourhood holds over all channels (equation 3).

        M_s(F) = σ(f([AvgPool(F); MaxPool(F)]))

    Args:
        kernel: size of the convolution f; odd.
        pools: what is read of each place, over its channels.

    Raises:
        ValueError: if the kernel is even and would move the map.
    """

    def __init__(self, *, kernel: int = 7, pools: Sequence[Pool] = (average, maximum)) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} is even: its middle is between two places; choose {kernel + 1}")
        self.pools = tuple(pools)
        self.convolution = nn.Conv2d(len(self.pools), 1, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 1 y x"]:
        """The gates M_s, between 0 and 1."""
        return self.norm(self.convolution(torch.cat([pool(x, (1,)) for pool in self.pools], 1))).sigmoid()


Gate = Callable[[Tensor], Tensor]


def channel_first(x: Float[Tensor, "b c y x"], channel: Gate, spatial: Gate) -> Float[Tensor, "b c y x"]:
    """What the paper chose (equation 1): the places are judged on channels that have been weighed."""
    x = channel(x) * x
    return spatial(x) * x


def spatial_first(x: Float[Tensor, "b c y x"], channel: Gate, spatial: Gate) -> Float[Tensor, "b c y x"]:
    """The other order (table 3)."""
    x = spatial(x) * x
    return channel(x) * x


def parallel(x: Float[Tensor, "b c y x"], channel: Gate, spatial: Gate) -> Float[Tensor, "b c y x"]:
    """Both gates from the same map (table 3)."""
    return channel(x) * spatial(x) * x


class CBAM(nn.Module):
    """The block: it refines a map and keeps its shape (equation 1).

        F'  = M_c(F) ⊗ F
        F'' = M_s(F') ⊗ F'

    Args:
        channels: channels C of the map.
        channel: makes M_c from C.
        spatial: makes M_s.
        order: joins the two.
    """

    def __init__(
        self,
        channels: int,
        *,
        channel: Callable[[int], nn.Module] = ChannelAttention,
        spatial: Callable[[], nn.Module] = SpatialAttention,
        order: Callable[[Tensor, Gate, Gate], Tensor] = channel_first,
    ) -> None:
        super().__init__()
        self.channel, self.spatial, self.order = channel(channels), spatial(), order

    def initialise(self, start: Start) -> None:
        """Ask both gates: a ``ResNet`` draws the convolution of the spatial one as its own."""
        ask(self.channel, self.spatial, start=start)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Weigh the channels and the places."""
        return self.order(x, self.channel, self.spatial)


class SqueezeExcitation(ChannelAttention):
    """The parent (Hu et al. 2018, arXiv 1709.01507): the average alone, and the gate put to work at once."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__(channels, reduction=reduction, pools=(average,))

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Weigh the channels."""
        return super().forward(x) * x


@torch.no_grad()
def initialise(model: ResNet) -> ResNet:
    """Start a ResNet with blocks as the authors' network starts, in place; ``cbam`` has done so.

    Spatial gates start at exactly one half, their norm having a weight and a bias of zero. The perceptrons keep the
    default start of ``nn.Linear`` but for their biases, which are zero, so that channel gates lie around one half. The
    7 x 7 convolutions are drawn like all others of the branches; a shortcut's keeps the default start of
    ``nn.Conv2d``, and the head has deviation √(2 / fan in) and no bias.
    """
    for module in model.modules():
        if isinstance(module, SpatialAttention):
            nn.init.zeros_(module.norm.weight)
        elif isinstance(module, ChannelAttention):
            for layer in module.mlp:
                if isinstance(layer, nn.Linear):
                    nn.init.zeros_(layer.bias)
        elif isinstance(module, Residual) and isinstance(module.shortcut, nn.Sequential):
            for layer in module.shortcut:
                if isinstance(layer, nn.Conv2d):
                    layer.reset_parameters()
    model.start_head = _start_head
    model.start_head(model.head)
    return model


def _start_head(layer: nn.Module, *, parts: int = 1) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


VARIANTS: dict[str, str] = {f"cbam_{name}": name for name in RESNETS}  # table 4 has those up to 101 layers


@pretrainable
def cbam(variant: str, *, block: Callable[[int], nn.Module] = CBAM, **overrides: Any) -> ResNet:
    """A ResNet with a block at the end of every residual branch (figure 3), such as ``"cbam_resnet50"``.

    It starts as the authors' network does (``initialise``).

    Args:
        variant: a key of ``VARIANTS``.
        block: makes the block from its channels; ``partial(CBAM, order=...)`` for another one.
        overrides: any argument of ``ResNet``, as ``num_classes`` and ``channels``.

    Raises:
        ValueError: if the variant is unknown.
    """
    return initialise(resnet(lookup(VARIANTS, variant), **{"branch": partial(block), **overrides}))
