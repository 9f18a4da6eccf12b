"""Stochastic depth: in training, some samples skip a residual branch (Huang et al. 2016, arXiv 1603.09382)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for some samples, and scale it for the others so that its mean stays.

        x + b f(x) / (1 - p),   b = 0 with probability p, for each sample by itself

    Larsson et al. 2016 scale in training as here; Huang et al. 2016, equation 5, multiply by 1 - p in evaluation.

    Args:
        p: probability of dropping, from 0 to below 1.

    Raises:
        ValueError: if ``p`` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p} is no probability of dropping: choose 0 <= p < 1")
        self.p = p

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """Zero all of some samples in training; in evaluation, do nothing."""
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) >= self.p
        return x * kept / (1 - self.p)

    def extra_repr(self) -> str:
        """The probability, as printed with the model."""
        return f"p={self.p}"


def depth_rates(rate: float, depth: int) -> list[float]:
    """Rates that grow linearly from 0 at the first block to ``rate`` at the last, as is customary (section 4)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
