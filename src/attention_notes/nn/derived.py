"""Buffers that follow from a module's sizes, and so are never stored."""

from collections.abc import Callable
from typing import Any

from torch import nn


class Derived(nn.Module):
    """A module that computes some buffers from its sizes, and anew when it comes from ``meta``.

    There a model is built without memory, which ``to_empty`` gives it; its parameters then come from a state dict,
    where such buffers are not.
    """

    def rebuild(self) -> None:
        """Compute the buffers, on the device and in the type of those that there are."""
        raise NotImplementedError

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Derived":
        absent = any(buffer.is_meta for buffer in self.buffers(recurse=False))
        super()._apply(fn, recurse)
        if absent:
            self.rebuild()
        return self
