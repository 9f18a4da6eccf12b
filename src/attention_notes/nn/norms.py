"""The layer norm of Vision Transformers, and vectors of length one."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

layer_norm = partial(nn.LayerNorm, eps=1e-6)  # as in the authors' code of ViT, DeiT and PVT; PyTorch's own is 1e-5


def unit(x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
    """Each vector divided by its length; a vector of zeros, such as that of a padded token, stays zero.

    As ``F.normalize``. Its floor of 1e-12 for the length is zero in float16, and zeros would be divided by zero. There
    the floor is the precision of the type: a gradient is divided by it, too, and must not overflow.
    """
    kind = torch.finfo(x.dtype)
    return F.normalize(x, dim=-1, eps=1e-12 if kind.tiny < 1e-12 else kind.eps)
