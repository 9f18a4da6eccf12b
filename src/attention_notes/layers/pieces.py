"""Work on some rows of a tensor at a time, where little memory at once is quicker memory."""

import math
from collections.abc import Callable
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

# how many pieces of the tensor under way are done: who watches what a work does can put its pieces together
done: ContextVar[int] = ContextVar("done", default=0)


def in_pieces(
    work: Callable[[Tensor], Tensor], x: Float[Tensor, "b *s c"], *, tokens: int = 4096
) -> Float[Tensor, "b *t"]:
    """``work(x)``, of a work that treats every row by itself; on a CPU for some rows at a time, of so many tokens.

    A tensor of more than 32 MB is asked of the system at every call, which clears its pages each time. What lies
    between, such as the hidden units of a perceptron, stays below that, and its memory serves the next rows. A GPU
    wants all rows at once, and so does a compiler: there it is ``work(x)``.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return work(x)
    rows = max(1, tokens // math.prod(x.shape[1:-1]))
    if len(x) <= rows:
        return work(x)
    found: list[Tensor] = []
    for piece in x.split(rows):
        before = done.set(len(found))
        try:
            found.append(work(piece))
        finally:
            done.reset(before)
    return torch.cat(found)


class Piecewise(nn.Sequential):
    """Modules one after the other, ``in_pieces``: a few images go through all of them, then the next few."""

    def forward(self, x: Float[Tensor, "b *s c"]) -> Float[Tensor, "b *t"]:
        """As ``nn.Sequential``."""
        return in_pieces(super().forward, x)
