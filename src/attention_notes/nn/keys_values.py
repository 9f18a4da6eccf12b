"""Keys and values that are computed once and kept while a text is written token by token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROOM = 16  # tokens by which the tensors grow


class KeysValues:
    """The keys and values of the tokens that one attention has read so far.

    Tensors with room for more tokens are filled one after the other, so that a new token copies nothing that is there.
    Where gradients are recorded a new tensor is made each time, since what is differentiated must not change.
    """

    def __init__(self) -> None:
        self.length = 0
        self._held: tuple[Tensor, Tensor] | None = None

    def extend(
        self, k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
    ) -> tuple[Float[Tensor, "b h n d"], Float[Tensor, "b h n d"]]:
        """Append the keys and values of ``m`` new tokens; returns those of all ``n`` tokens."""
        old = (None, None) if self._held is None else self._held
        self._held = _append(old[0], k, length=self.length), _append(old[1], v, length=self.length)
        self.length += k.shape[-2]
        return self._held[0][..., : self.length, :], self._held[1][..., : self.length, :]

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Keep these rows of the batch, in this order."""
        if self._held is not None:
            self._held = _rows(self._held[0], rows, length=self.length), _rows(self._held[1], rows, length=self.length)


def _append(held: Tensor | None, new: Tensor, *, length: int) -> Tensor:
    """The first ``length`` tokens of ``held`` and then ``new``, perhaps with room behind them."""
    if torch.is_grad_enabled():
        return new if held is None else torch.cat([held[..., :length, :], new], -2)
    end = length + new.shape[-2]
    if held is None or held.shape[-2] < end:
        grown = new.new_empty(*new.shape[:2], end + ROOM, new.shape[-1])
        if held is not None:
            grown[..., :length, :] = held[..., :length, :]
        held = grown
    held[..., length:end, :] = new
    return held


def _rows(held: Tensor, rows: Tensor, *, length: int) -> Tensor:
    """These rows, with the same room behind the first ``length`` tokens."""
    if torch.is_grad_enabled():
        return held[rows, :, :length]
    kept = held.new_empty(len(rows), *held.shape[1:])
    torch.index_select(held[..., :length, :], 0, rows, out=kept[..., :length, :])
    return kept
