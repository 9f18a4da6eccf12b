"""Sizes of images, as users give them."""

from collections.abc import Iterable
from operator import index
from typing import Any, SupportsIndex

Size = SupportsIndex | Iterable[SupportsIndex]


def pair(size: Any) -> tuple[int, int]:
    """Height and width, from both or from one number for both, of whatever kind: a list, numbers of NumPy, a shape.

    Raises:
        ValueError: if they are not one whole number or two.
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
    return height, width
