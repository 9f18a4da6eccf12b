"""Pixels as words: a palette of colours found by k-means (section 3.2), and images as tokens of it.

A token is the number of a colour. Pixels are read row by row, the raster order of section 2.1.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cluster(pixels: Float[Tensor, "n ch"], palette: Float[Tensor, "k ch"], *, steps: int) -> Float[Tensor, "k ch"]:
    """Improve a palette by k-means (Lloyd's algorithm); no step makes the mean squared error larger.

    A step gives each pixel its nearest colour, and moves each colour to the mean of its pixels. A colour without pixels
    stays where it is.

    Args:
        pixels: ``n`` pixels of ``ch`` channels.
        palette: the ``k`` colours to begin with, such as ``pixels[torch.randperm(len(pixels))[:512]]``.
        steps: how many times.
    """
    for _ in range(steps):
        nearest = _nearest(pixels, palette)
        counts = nearest.bincount(minlength=len(palette))[:, None]
        sums = torch.zeros_like(palette).index_add(0, nearest, pixels)
        palette = torch.where(counts > 0, sums / counts.clamp(min=1), palette)
    return palette


def to_tokens(images: Float[Tensor, "b ch y x"], palette: Float[Tensor, "k ch"]) -> Int[Tensor, "b n"]:
    """The number of the nearest colour for each pixel, row by row.

    Raises:
        ValueError: if images and palette have different channels.
    """
    if images.shape[1] != palette.shape[1]:
        raise ValueError(
            f"images of {images.shape[1]} channels, but the colours of the palette have {palette.shape[1]}: "
            "cluster the pixels of such images"
        )
    return _nearest(images.movedim(1, -1).flatten(1, 2), palette)


def to_images(tokens: Int[Tensor, "b n"], palette: Float[Tensor, "k ch"], *, width: int) -> Float[Tensor, "b ch y x"]:
    """The colours of tokens, in rows of ``width`` pixels.

    Raises:
        ValueError: if the tokens do not fill their rows, or if one is not the number of a colour.
    """
    if tokens.shape[1] % width:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill rows of {width} pixels: leave out the start token")
    if tokens.numel() and (tokens.min() < 0 or tokens.max() >= len(palette)):
        raise ValueError(
            f"tokens from {tokens.min()} to {tokens.max()}, but the palette has {len(palette)} colours, from 0 to "
            f"{len(palette) - 1}: the start token {len(palette)} is no colour"
        )
    return palette[tokens].unflatten(1, (-1, width)).movedim(-1, 1)


def _nearest(pixels: Float[Tensor, "*b ch"], palette: Float[Tensor, "k ch"]) -> Int[Tensor, "*b"]:
    """|pixel - colour|^2 without |pixel|^2, which is the same for all colours."""
    return (palette.square().sum(-1) - 2 * pixels @ palette.T).argmin(-1)
