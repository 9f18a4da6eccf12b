"""How a model that predicts the next token writes a text: what it must offer, and the simplest search."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class DecodingState(Protocol):
    """A model part of the way through a batch of texts, with all that it need not compute again."""

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one token to each text; returns the logits of the token after it."""

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these texts, in this order; one may come several times, as in beam search."""


@torch.no_grad()
def greedy(
    state: DecodingState, first: Int[Tensor, " b"], *, end: int, limit: int, padding: int = 0
) -> Int[Tensor, "b n"]:
    """Append the likeliest token, then the likeliest after it, until every text has its ``end`` or ``limit`` tokens.

    Args:
        state: as it was before the first token.
        first: the token with which each text begins; it is not returned.
        end: the token that ends a text.
        limit: the largest number of tokens.
        padding: what fills the texts that end before the longest.

    Raises:
        ValueError: if ``limit`` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit={limit}: at least one token is written")
    token, written = first, []
    done = torch.zeros_like(first, dtype=torch.bool)
    for _ in range(limit):
        token = state.step(token).argmax(-1).masked_fill(done, padding)
        written.append(token)
        done = done | (token == end)
        if done.all():
            break
    return torch.stack(written, 1)
