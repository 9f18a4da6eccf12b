"""Shifted windows, step by step, on a real image: what ``nn.windows.Windows`` does with every token.

All indices and the mask come from two ``Windows``, plain and shifted, that cut a map in which each token is its number.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attention_notes.chapters.widgets import Live, pack
from attention_notes.chapters.widgets.sees import pack_bits
from attention_notes.nn.attention import attention_weights
from attention_notes.nn.windows import Windows, join_windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PIXELS = 16  # a token's side in the picture that is shown
_SHARPNESS = 6.0  # of the comparison of colours: at 0 all weights are equal


def shifted_windows(image: Float[Tensor, "3 y x"], *, side: int = 14, window: int = 7) -> Live:
    """The live figure: an image is cut into windows, rolled, masked, attended in, and rolled back; pick a token.

    The sizes are those of the third stage of Swin-T at 224 pixels: four windows, one of each sort.

    Args:
        image: square, colours from 0 to 1.
        side: rows and columns of tokens.
        window: rows and columns of a window; must divide ``side`` and be smaller.
    """
    plain, shifted = (Windows((side, side), window=(window, window), shifted=shift) for shift in (False, True))
    tables, allowed = tables_of(plain, shifted), allowed_pairs(shifted)
    small = F.interpolate(image[None].cpu(), size=side * _PIXELS, mode="bicubic", antialias=True)[0].clamp(0, 1)
    data = {
        "side": side,
        "window": window,
        "shift": shifted.shift[0],
        "start": side // 2 * side + side // 2 - 1,
        "photo": _jpeg(small),
        **{name: table.tolist() for name, table in tables.items()},
        "allowed": pack_bits(allowed.flatten(0, 1)),
        "weights": pack(by_colour(small, shifted)),
    }
    return Live("windows", data, alt=_in_words(allowed, shifted), still=_picture(small, shifted))


def tables_of(plain: Windows, shifted: Windows) -> dict[str, Tensor]:
    """Which token is where, by number, row by row.

    Returns:
        ``plain`` and ``shifted``, s x n: the tokens of each window. ``rolled``: the token at every place of the map
        that is cut into shifted windows; ``back``: that at every place of what ``join`` makes of them. ``pieces``,
        s x n: tokens of one window have the same number if they may see the same tokens.
    """
    numbers = torch.arange(float(plain.grid[0] * plain.grid[1])).view(1, *plain.grid, 1)
    windows = shifted.cut(numbers)
    same = [rows.unique(dim=0, return_inverse=True)[1] for rows in ~allowed_pairs(shifted)]
    tables = {
        "plain": plain.cut(numbers)[..., 0],
        "shifted": windows[..., 0],
        "rolled": join_windows(windows, shifted.window, grid=shifted.padded).flatten(),
        "back": shifted.join(windows).flatten(),
        "pieces": torch.stack(same),
    }
    return {name: table.long() for name, table in tables.items()}


def allowed_pairs(windows: Windows) -> Bool[Tensor, "s n n"]:
    """Which query (rows) may see which key (columns) of each window: where the mask adds nothing.

    Raises:
        ValueError: if the windows have no mask.
    """
    if windows.mask is None:
        raise ValueError(f"windows that are not shifted have no mask: {windows.extra_repr()}")
    return windows.mask == 0


def by_colour(image: Float[Tensor, "3 y x"], windows: Windows) -> Float[Tensor, "s n n"]:
    """Attention with nothing learned: a softmax over minus the squared difference of the tokens' mean colours."""
    colours = F.adaptive_avg_pool2d(image, windows.grid).movedim(0, -1)[None]
    tokens = windows.cut((colours - colours.mean((1, 2))) / colours.std((1, 2)))
    far = -_SHARPNESS / 2 * tokens.square().sum(-1)  # |a - b|² = |a|² - 2ab + |b|², and |a|² is the same for all keys
    mask = far[:, None] if windows.mask is None else windows.mask + far[:, None]
    return attention_weights(tokens, tokens, mask=mask, scale=_SHARPNESS)


def _jpeg(image: Float[Tensor, "3 y x"]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    pixels = (image.movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _in_words(allowed: Bool[Tensor, "s n n"], windows: Windows) -> str:
    pairs = ", ".join(str(int(count)) for count in allowed.sum((1, 2)))
    (rows, columns), (wy, wx), (by, _) = windows.grid, windows.window, windows.shift
    return (
        f"A photograph of {rows} x {columns} tokens, step by step: cut into {len(allowed)} windows of {wy} x {wx}; "
        f"rolled by {by} rows and columns, so that some windows mix regions that are not adjacent; masked; attended "
        f"in; and rolled back. Of the "
        f"{allowed[0].numel()} pairs of each window the mask lets {pairs} through."
    )


def _picture(image: Float[Tensor, "3 y x"], windows: Windows) -> Axes:
    """Plain windows; the rolled map; the shifted windows on the image when it has been rolled back."""
    from attention_notes.papers.swin.figures import windows as draw

    per = 4  # pixels for a token: a photograph is large as a PNG
    by, side, wide = (per * cells for cells in (windows.shift[0], windows.grid[0], windows.window[0]))
    cuts, inside = ([float(at) for at in range(first, side + 1, wide)] for first in (0, by))
    panels: Any = {
        "windows": ((0, 0), (cuts, cuts)),
        f"rolled by {windows.shift[0]}": ((-by, -by), (cuts, cuts)),
        "rolled back": ((0, 0), (inside, inside)),
    }
    return draw(F.adaptive_avg_pool2d(image, side), panels)
