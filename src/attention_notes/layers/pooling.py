"""What stands for an image: a token of its own, or the mean of all."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.layers.protocols import Tokens


class ClassToken(nn.Module):
    """A learned token in front of the patches; what it has become at the end stands for the image.

    Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1, after Devlin et al. 2018. It starts at zero.
    """

    extra = 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))

    def prepend(self, patches: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """Put the token before the ``n`` patches; ``m = n + 1``."""
        return torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1)

    def forward(self, z: Float[Tensor, "b m c"]) -> Float[Tensor, "b c"]:
        """Read the token."""
        return z[:, 0]


class MeanPooling(nn.Module):
    """No extra token: the mean of all tokens, in a row or on a map, stands for the image."""

    extra = 0

    def __init__(self, dim: int) -> None:
        super().__init__()

    def prepend(self, patches: Tokens) -> Tokens:
        """Add nothing."""
        return patches

    def forward(self, z: Tokens) -> Float[Tensor, "b c"]:
        """Average over the tokens."""
        return z.mean(dim=tuple(range(1, z.ndim - 1)))
