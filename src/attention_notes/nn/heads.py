"""Heads of an attention."""


def check_heads(dim: int, heads: int) -> int:
    """The number of heads, if they divide the width into equal parts.

    Raises:
        ValueError: if they do not.
    """
    if heads < 1 or dim % heads:
        raise ValueError(f"dim={dim} is not divisible by heads={heads}")
    return heads
