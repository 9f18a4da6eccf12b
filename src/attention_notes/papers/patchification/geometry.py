"""Where tokens lie on the image that were interpolated between patches; all others lie as those of ``vit``."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_notes.inspect.token_geometry import Pair, Window, window
from attention_notes.papers.patchification.model import ExtendedPatches


@window.register
def _(module: ExtendedPatches, size: Pair) -> Window:
    """A token stands for its share of a patch, and is made of the nearest patches on either side."""
    parts = tuple(map(_parts, module.image_size, module.patch, module.grid))
    return Window(module.cell, module.cell, (0, 0), module.grid, parts=parts)


def _parts(pixels: int, patch: int, tokens: int) -> Tensor:
    """What part of each token, in a row, each pixel is."""
    blended = F.interpolate(torch.eye(pixels // patch)[None], tokens, mode="linear")[0]
    return blended.mT.repeat_interleave(patch, dim=1) / patch
