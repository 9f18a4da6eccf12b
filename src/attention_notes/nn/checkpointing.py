"""Gradient checkpointing: keep what enters a block, and run the block again when its gradients are due.

Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
"""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Blocks(nn.Sequential):
    """The blocks of a trunk or of one of its stages, one after the other.

    With ``checkpointed`` set, each block runs once more in the backward pass, so that the forward pass need not keep
    what is inside of it. That is done in training only, and only while gradients are recorded. The random numbers and
    the running statistics of the second run are those of the first, and the statistics move once: a step computes the
    same to the last bit. The block itself is called both times, so its hooks fire.
    """

    checkpointed = False

    def forward(self, x: Tensor) -> Tensor:
        """Run all blocks."""
        for block in self:
            x = self.run(block, x)
        return x

    def run(self, block: nn.Module, *inputs: Any) -> Any:
        """Run one of the blocks on what it is given."""
        if not (self.checkpointed and self.training and torch.is_grad_enabled()):
            return block(*inputs)
        if torch.compiler.is_compiling():  # there, a buffer that moves is an output of the graph, and moves once
            if any(_remembers(module) for module in block.modules() if not isinstance(module, _BatchNorm)):
                raise RuntimeError(  # unless it compiles a full graph, the compiler leaves this method alone then
                    f"{type(block).__name__} has running statistics that a compiler may move before the second run: "
                    "switch checkpointing off, or compile without fullgraph"
                )
            return checkpoint(block, *inputs, use_reentrant=False)
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _AsBefore(block)))


def _remembers(module: nn.Module) -> set[str]:
    """The names of its own buffers that are stored; others follow from sizes, and do not move."""
    return module._buffers.keys() - module._non_persistent_buffers_set


class _AsBefore(AbstractContextManager[None]):
    """Inside, a block has the buffers of its state as they were when this was made; what they become is forgotten.

    Buffers are exchanged and not written to, as the first run may have kept them for its gradients.
    """

    def __init__(self, block: nn.Module) -> None:
        self.before = [
            (module, name, buffer.clone())
            for module in block.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if module.training and name in _remembers(module)
        ]

    def __enter__(self) -> None:
        self.now = [getattr(module, name) for module, name, _ in self.before]
        for module, name, buffer in self.before:
            setattr(module, name, buffer.clone())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (module, name, _), buffer in zip(self.before, self.now, strict=True):
            setattr(module, name, buffer)
