"""Residual networks, the convolutional parents of the blocks that are made to sit in one.

He et al. 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385. Departure, as in every library since
Goyal et al. 2017: a bottleneck's stride is on its 3 x 3 convolution.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.initialise import OwnLayers, Start, initialise
from attention_notes.nn.protocols import Make
from attention_notes.nn.sizes import check_channels, check_images
from attention_notes.nn.variants import given, lookup
from attention_notes.nn.vision import Backbone, Indices, linear_head, maps_after
from attention_notes.weights.pretrained import pretrainable


class Convolution(OwnLayers, nn.Sequential):
    """A convolution and its norm."""


def convolution(
    channels: int, width: int, kernel: int, *, stride: int = 1, dilation: int = 1, norm: Make = nn.BatchNorm2d
) -> Convolution:
    """A convolution without bias that keeps the size but for its stride, and the norm that makes a bias useless."""
    padding = dilation * (kernel // 2)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "bias": False}
    return Convolution(nn.Conv2d(channels, width, kernel, **options), norm(width))


def kaiming(layer: nn.Module, *, parts: int = 1) -> None:
    """Convolutions from He et al.'s normal distribution, by what goes out: how residual networks start."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def as_made(layer: nn.Module, *, parts: int = 1) -> None:
    """Nothing: a layer keeps what PyTorch made of it, as the head of a residual network does."""


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)), the shortcut being a 1 x 1 convolution where the shape changes (equations 1, 2).

    Args:
        channels: channels that come in.
        width: channels that go out.
        stride: by how much the map shrinks.
        layers: the convolutions of the branch, the rectifiers between them put in here.
        end: module at the end of the branch, before the sum.
        norm: makes the norm of the shortcut from its width.
        activation: makes the rectifiers.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        stride: int,
        layers: Sequence[nn.Module],
        end: nn.Module,
        norm: Make = nn.BatchNorm2d,
        activation: Make = nn.ReLU,
    ) -> None:
        super().__init__()
        self.width = width
        rectified = [part for layer in layers for part in (activation(), layer)][1:]
        self.branch = nn.Sequential(*rectified)
        self.end = end
        changes = stride != 1 or channels != width
        self.shortcut = convolution(channels, width, 1, stride=stride, norm=norm) if changes else nn.Identity()
        self.relu = activation()

    def initialise(self, start: Start) -> None:
        """Draw the convolutions of branch and shortcut, and what else has ``initialise``."""
        initialise(*self.branch, self.end, self.shortcut, start=start)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b w gy gx"]:
        """Add what the branch found."""
        return self.relu(self.end(self.branch(x)) + self.shortcut(x))


Branch = Callable[[int], nn.Module]


def basic(
    channels: int,
    width: int,
    *,
    stride: int,
    dilation: int,
    branch: Branch,
    norm: Make = nn.BatchNorm2d,
    activation: Make = nn.ReLU,
) -> Residual:
    """Two 3 x 3 convolutions (figure 5, left); ``width`` is also what comes out."""
    layers = [
        convolution(channels, width, 3, stride=stride, dilation=dilation, norm=norm),
        convolution(width, width, 3, dilation=dilation, norm=norm),
    ]
    made: dict[str, Any] = {"layers": layers, "end": branch(width), "norm": norm, "activation": activation}
    return Residual(channels, width=width, stride=stride, **made)


def bottleneck(
    channels: int,
    width: int,
    *,
    stride: int,
    dilation: int,
    branch: Branch,
    spatial: Make | None = None,
    norm: Make = nn.BatchNorm2d,
    activation: Make = nn.ReLU,
) -> Residual:
    """1 x 1 down to ``width``, 3 x 3, and 1 x 1 up to four times ``width`` (figure 5, right).

    ``spatial(width, stride=, dilation=)`` makes what stands in the place of the 3 x 3 convolution and its norm, such as
    an attention. It keeps the channels, and shrinks the map by its stride.
    """
    middle = spatial or partial(convolution, width, kernel=3, norm=norm)
    layers = [
        convolution(channels, width, 1, norm=norm),
        middle(width, stride=stride, dilation=dilation),
        convolution(width, 4 * width, 1, norm=norm),
    ]
    made: dict[str, Any] = {"layers": layers, "end": branch(4 * width), "norm": norm, "activation": activation}
    return Residual(channels, width=4 * width, stride=stride, **made)


class ResNet(Backbone):
    """A stem, four stages of residual blocks at strides 4, 8, 16, 32, the mean over the map, and a linear head.

    A stage is a sequence, ``Blocks``, of ``Residual``: a module that keeps its shape can be put into it, as
    ``stage.insert(index, module)``.

    Args:
        block: makes a residual block: ``basic``, ``bottleneck``, ``partial(bottleneck, spatial=...)``, or any module
            that has its ``width``, the channels that it gives.
        depths: blocks of each stage (table 1).
        width: width of the first stage; each further one has twice that of the one before.
        num_classes: width of the output; ``None`` for no head.
        channels: channels of the image.
        dilations: of each stage; a dilated one keeps the size instead of halving it, and its first block has the
            dilation of the stage before.
        branch: makes the module at the end of every branch from the branch's channels.
        norm: makes every norm from its channels; batch norm when not given.
        activation: makes every rectifier; ``nn.ReLU`` when not given.

    Raises:
        ValueError: if there are no channels, or if ``num_classes`` is neither None nor 1 or more.
    """

    start_head: Start = staticmethod(as_made)

    def __init__(
        self,
        block: Callable[..., Any],
        *,
        depths: Sequence[int],
        width: int = 64,
        num_classes: int | None = 1000,
        channels: int = 3,
        dilations: Sequence[int] = (1, 1, 1, 1),
        branch: Branch | None = None,
        norm: Make | None = None,
        activation: Make | None = None,
    ) -> None:
        super().__init__()
        self.channels = check_channels(channels)
        first = convolution(channels, width, 7, stride=2, **given(norm=norm))
        self.stem = nn.Sequential(first, (activation or nn.ReLU)(), nn.MaxPool2d(3, 2, 1))
        parts = {"branch": branch or (lambda _: nn.Identity()), **given(norm=norm, activation=activation)}
        self.stages = nn.ModuleList()
        self.widths: list[int] = []
        last, before = width, dilations[0]
        for i, (depth, dilation) in enumerate(zip(depths, dilations, strict=True)):
            stage = Blocks()
            for j in range(depth):
                stride = 2 if i and not j and dilation == 1 else 1
                each = block(last, width << i, stride=stride, dilation=dilation if j else before, **parts)
                stage.append(each)
                last = each.width
            self.stages.append(stage)
            self.widths.append(last)
            before = dilation
        self.num_features = last
        self.head = linear_head(last, num_classes)
        initialise(first, *(each for stage in self.stages for each in stage.children()), start=kaiming)

    def features(
        self, images: Float[Tensor, "b ch y x"], out_indices: Indices | None = None
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The map of every stage, ``b c y x``, at strides 4, 8, 16, 32, or less where a stage is dilated.

        Raises:
            ValueError: for images of other channels or axes, or if there is no such map.
        """
        check_images(images, self.channels)
        return maps_after(self.stages, self.stem(images), out_indices)

    def forward(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b k"]:
        """Logits of the ``k`` classes, or the mean of the last map where the model has no head."""
        return self.head(self.features(images, [-1])[0].mean((-2, -1)))


VARIANTS: dict[str, dict[str, Any]] = {
    # table 1
    "resnet18": {"block": basic, "depths": (2, 2, 2, 2)},
    "resnet34": {"block": basic, "depths": (3, 4, 6, 3)},
    "resnet50": {"block": bottleneck, "depths": (3, 4, 6, 3)},
    "resnet101": {"block": bottleneck, "depths": (3, 4, 23, 3)},
    "resnet152": {"block": bottleneck, "depths": (3, 8, 36, 3)},
}


@pretrainable
def resnet(variant: str, **overrides: Any) -> ResNet:
    """A residual network by its name, such as ``"resnet50"``; ``overrides`` are the arguments of ``ResNet``.

    Raises:
        ValueError: if the variant is unknown.
    """
    return ResNet(**{**lookup(VARIANTS, variant), **overrides})
