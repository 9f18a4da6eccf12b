"""Sizes of images, as users give them."""

Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    """Height and width, from both or from one number for both."""
    return (size, size) if isinstance(size, int) else size
