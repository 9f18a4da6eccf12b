"""LayerScale: each channel of what a branch adds is multiplied by a learned number that starts small."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerScale(nn.Module):
    """x -> diag(λ_1, ..., λ_c) x, on a residual branch (Touvron et al. 2021, arXiv 2103.17239, equation 4).

    Args:
        dim: width ``c`` of the tokens.
        start: what all λ start at, such as 1e-5.
    """

    def __init__(self, dim: int, *, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(start)))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Scale each channel."""
        return x * self.gamma
