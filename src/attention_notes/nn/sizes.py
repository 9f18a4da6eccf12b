"""Images and their sizes, as users give them."""

from collections.abc import Iterable
from operator import index
from typing import Any, SupportsIndex

from torch import Tensor
from torch.fx import Proxy

Size = SupportsIndex | Iterable[SupportsIndex]


def pair(size: Any, *, least: int = 1) -> tuple[int, int]:
    """Height and width, from both or from one number for both, of whatever kind: a list, numbers of NumPy, a shape.

    Raises:
        ValueError: if they are not one whole number or two, or if one is below ``least``.
    """
    try:
        sides = tuple(size)
    except TypeError:  # one number
        sides = (size, size)
    try:
        height, width = map(index, sides)
    except (TypeError, ValueError):
        message = f"{size!r} is no size: give one whole number for both sides, or two, height and width"
        raise ValueError(message) from None
    if min(height, width) < least:
        raise ValueError(f"{size!r} is no size: height and width are {least} or more")
    return height, width


def check_channels(channels: int) -> int:
    """Channels of images.

    Raises:
        ValueError: if there are none.
    """
    if channels < 1:
        raise ValueError(f"channels={channels}: images have 1 or more")
    return channels


def check_images(images: Tensor, channels: int, *, axes: str = "b ch y x") -> None:
    """Refuse what is no batch of images: the first part of a model that reads them calls this.

    Args:
        images: what the model was given; nothing is known of it, and nothing refused, where ``torch.fx`` records.
        channels: channels of the images that the model was built for.
        axes: names of the axes; ``ch`` stands for the channels.

    Raises:
        ValueError: if they have other axes or channels, no pixels, or whole numbers, with their shape and the way out.
    """
    if isinstance(images, Proxy):
        return
    names, shape = axes.split(), tuple(images.shape)
    kind = "clip" if "t" in names else "image"
    if images.ndim == len(names) - 1:
        raise ValueError(f"one {kind} of shape {shape}, but the model reads batches {axes!r}: give it {kind}[None]")
    if images.ndim != len(names):
        raise ValueError(f"{kind}s of shape {shape}, but the model reads batches {axes!r}, with {len(names)} axes")
    if shape[names.index("ch")] != channels:
        raise ValueError(
            f"{kind}s of shape {shape} have {shape[names.index('ch')]} channels, but the model was built for "
            f"channels={channels} and reads batches {axes!r}"
        )
    if 0 in shape[1:]:
        raise ValueError(f"{kind}s of shape {shape} have no pixels")
    if not images.is_floating_point():
        raise ValueError(
            f"{kind}s of {images.dtype}, but the model computes with floating-point numbers: divide by 255, and "
            "normalise as in its training"
        )
