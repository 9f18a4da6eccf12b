"""Buffers that follow from a module's sizes, and so are never stored."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Derived(nn.Module):
    """A module that computes some buffers from its sizes, and anew where they have no values.

    ``to_empty`` leaves them without; on ``meta`` they never had any. A state dict does not bring them back, as it does
    the parameters. So they are computed again after ``to_empty``, and after a state dict has been assigned to a model
    on ``meta``, if its trunk has called ``returns_from_meta``.
    """

    remembers: tuple[str, ...] = ()  # buffers in the state dict that nobody else's models have

    def rebuild(self) -> None:
        """Compute the buffers, on the device and in the type of those that there are."""
        raise NotImplementedError

    def follow(self, weights: Tensor) -> None:
        """Leave ``meta`` for the device and the type of ``weights``."""
        for name, buffer in self.named_buffers(recurse=False):
            if buffer.is_meta:
                kind = weights.dtype if buffer.is_floating_point() else buffer.dtype
                setattr(self, name, torch.empty_like(buffer, device=weights.device, dtype=kind))
        self.rebuild()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Derived":
        lost = _empties(fn) or any(buffer.is_meta for buffer in self.buffers(recurse=False))
        super()._apply(fn, recurse)
        if lost:
            self.rebuild()
        return self


def _empties(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether it is that of ``to_empty``: no other takes a tensor from ``meta`` to a device."""
    try:
        return not fn(torch.empty(0, device="meta")).is_meta
    except RuntimeError:  # nothing to copy
        return False


def returns_from_meta(model: nn.Module) -> None:
    """Let ``model.load_state_dict(state, assign=True)`` bring its ``Derived`` parts from ``meta``, too.

    Those have no parameters to tell where the model is now: a trunk that may have such parts calls this once.
    """
    model.register_load_state_dict_post_hook(_bring)


def _bring(model: nn.Module, _: object) -> None:
    weights = next((p for p in model.parameters() if not p.is_meta), None)
    if weights is None:
        return
    for part in model.modules():
        if isinstance(part, Derived) and any(buffer.is_meta for buffer in part.buffers(recurse=False)):
            part.follow(weights)


def remembered(model: nn.Module) -> set[str]:
    """Names in the state dict that nobody else's models have."""
    parts = ((name, part) for name, part in model.named_modules() if isinstance(part, Derived))
    return {f"{name}.{leaf}" if name else leaf for name, part in parts for leaf in part.remembers}
