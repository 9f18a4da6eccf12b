"""A mixture of the maps of an attention's heads."""

import torch
from jaxtyping import Float
from torch import Tensor


def mix_heads(
    maps: Float[Tensor, "b h n m"], weight: Float[Tensor, "g h"], bias: Float[Tensor, " g"]
) -> Float[Tensor, "b g n m"]:
    """Combine the maps of the heads: Σ_j W_ij A_j + w_i.

    A product for each sample, so that nothing has to be laid out anew: a linear map over the heads, which have to be
    the last axis for it, took five to ten times as long on a CPU. The maps are not changed.
    """
    each = weight.expand(
        maps.shape[0], 1, -1, -1
    )  # of as many axes as the maps, as ``record_attention`` expects of values
    return torch.einsum("bxgh,bhnm->bgnm", each, maps).add_(bias[:, None, None])
