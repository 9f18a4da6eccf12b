"""How first weights are drawn: a trunk calls ``initialise`` of its parts, and each part draws its own layers only.

Papers differ in the distribution, not in what it is drawn for. So a trunk hands a ``Start`` to its parts, in a fixed
order: the same seed gives the same model. A part without ``initialise`` is foreign, and keeps what it made of itself.
"""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Start(Protocol):
    """Draws the first weights of one layer, in place, and leaves kinds of layers alone that it does not know."""

    def __call__(self, layer: nn.Module, *, parts: int = 1) -> None:
        """``parts``: how many maps of one shape stand one below another in a fused linear layer."""


@runtime_checkable
class Initialisable(Protocol):
    """A part that can draw its first weights anew."""

    def initialise(self, start: Start) -> None:
        """Hand each of its own layers to ``start``."""


def initialise(*parts: nn.Module, start: Start) -> None:
    """Call ``initialise`` of those ``parts`` that have it, one after the other."""
    for part in parts:
        if isinstance(part, Initialisable):
            part.initialise(start)


class OwnLayers(nn.Module):
    """A part whose layers are all its own."""

    def initialise(self, start: Start) -> None:
        """Draw the weights of each layer, in the order in which they stand in the module."""
        for layer in self.children():
            if isinstance(layer, Initialisable):
                layer.initialise(start)
            else:
                start(layer)


def truncated_normal(layer: nn.Module, *, parts: int = 1) -> None:
    """Linear maps from a normal distribution of deviation 0.02, without biases: how DeiT, Swin and PVT start."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        zero_bias(layer)


def zero_bias(layer: nn.Module) -> None:
    """Set the bias of a linear map or a convolution to zero, if it has one."""
    if isinstance(layer.bias, nn.Parameter):
        nn.init.zeros_(layer.bias)
