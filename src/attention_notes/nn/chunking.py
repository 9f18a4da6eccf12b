"""Inference on a CPU in chunks of a batch, as a context; the modules know nothing of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.mlp import MLP

Rows = Callable[[Tensor], int]


@contextmanager
def chunked(model: nn.Module, *, numbers: int = 2**19) -> Iterator[None]:
    """Let the perceptrons of ``model``, and its sequences of equal blocks, take some rows of a batch at a time.

    The C library asks the system for every tensor of more than 32 MB, at every call, and the system clears each page of
    it. In chunks no tensor is that large. The outputs are those of the whole batch, to rounding; the memory is less.
    Other threads that call the same model meanwhile work in chunks, too.

    Args:
        model: in evaluation mode, on a CPU.
        numbers: how many numbers a chunk of hidden units, or of what enters a sequence of blocks, may have.

    Raises:
        ValueError: if ``model`` is not on a CPU, or its forward methods have been replaced already.
        RuntimeError: at a call for which chunks would change numbers or be seen: in training, with gradients, with
            norms over the batch, with hooks on what is inside, in a trace or under a compiler.

    Example:
        >>> with chunked(model), torch.inference_mode():
        ...     logits = model(images)
    """
    elsewhere = sorted({t.device.type for t in (*model.parameters(), *model.buffers())} - {"cpu"})
    if elsewhere:
        raise ValueError(f"chunks are for a CPU, and the model is on {', '.join(elsewhere)}: call it without them")
    parts = dict(_parts(model, numbers))
    if replaced := [type(part).__name__ for part in parts if "forward" in vars(part)]:
        raise ValueError(f"the forward method of {', '.join(replaced)} is replaced already: leave chunked() first")
    for part, rows in parts.items():
        part.forward = partial(_in_chunks, part, rows)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _parts(model: nn.Module, numbers: int) -> Iterator[tuple[nn.Module, Rows]]:
    """The modules that treat every row by itself and hold much, with how many rows each may take."""
    for part in model.modules():
        if isinstance(part, MLP):
            yield part, partial(_rows_of_tokens, max(1024, numbers // part.expand.out_features))  # no product too small
        elif isinstance(part, nn.Sequential) and type(part) in (nn.Sequential, Blocks) and _are_blocks(part):
            yield part, partial(_rows_of_numbers, numbers)


def _rows_of_tokens(tokens: int, x: Tensor) -> int:
    return max(1, tokens * x.shape[-1] // max(1, x[0].numel()))


def _rows_of_numbers(numbers: int, x: Tensor) -> int:
    return max(1, numbers // max(1, x[0].numel()))


def _are_blocks(part: nn.Sequential) -> bool:
    """Whether its modules are of one class that has parts, as the blocks of a stage are."""
    return len({*map(type, part)}) == 1 and any(part[0].children()) and type(part[0]) not in (nn.Sequential, Blocks)


def _in_chunks(part: nn.Module, rows: Rows, x: Tensor) -> Tensor:
    forward = type(part).forward
    if reason := _reason_against(part):
        raise RuntimeError(f"{type(part).__name__} cannot work in chunks {reason}: leave chunked() for this call")
    size = rows(x)
    return forward(part, x) if len(x) <= size else torch.cat([forward(part, chunk) for chunk in x.split(size)])


def _reason_against(part: nn.Module) -> str:
    """Why chunks would change numbers or be seen; nothing if they would not."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "in a trace"
    if torch.is_grad_enabled():
        return "with gradients, which keep what chunks would let go"
    if _global_forward_hooks or _global_forward_pre_hooks:
        return "with hooks on every module"
    for name, module in part.named_modules():
        if module.training:
            return "in training"
        if name and (module._forward_hooks or module._forward_pre_hooks):
            return f"with a hook on {name}, which would be called for each of them"
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return f"with {name}, a norm over the batch"
    return ""
