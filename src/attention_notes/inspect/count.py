"""Count what a model has and what a pass of it costs: parameters, multiply-accumulates, activations.

The pass leaves no trace: buffers, as the statistics of a norm over the batch in training, and the random numbers that
come next are as they were. Nothing is changed for other threads, which may count the same model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from attention_notes.inspect.listen import call_openly


def count_parameters(model: nn.Module) -> int:
    """Number of parameters; a shared one counts once."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: Callable, *inputs: Tensor, **options: Any) -> int:
    """Multiply-accumulates of one forward pass, attention included: what papers call FLOPs.

    A MAC is two floating-point operations. Fused attention is counted as the two products that it is, ``n m d`` and
    ``n m d_v`` a head. Works on any device; on ``meta`` nothing is computed.
    """
    counter = _Flops()
    with torch.no_grad(), _as_it_was(model), BaseTorchFunctionMode(), counter:  # under a mode there is no fast path
        model(*inputs, **options)
    return counter.get_total_flops() // 2


def count_activations(model: Callable, *inputs: Tensor, **options: Any) -> int:
    """Elements that convolutions and linear maps write in one forward pass: what timm's tables call activations.

    A rough measure of the memory that a pass moves, and a better guide to its speed than MACs (Dollár et al. 2021,
    arXiv 2103.06877). Counted is what comes out of ``F.linear``, of the convolutions, and of a product with a single
    matrix, ``x @ w``, wherever it is called from. Norms, non-linearities and sums write as well, and are left out by
    custom; so are the products of two batches, queries with keys and weights with values: fused attention never writes
    its scores. Works on any device; on ``meta`` nothing is computed.
    """
    counter = _Activations()
    with torch.no_grad(), _as_it_was(model), counter:
        model(*inputs, **options)
    return counter.total


class _Activations(TorchFunctionMode):
    """Counts what each linear map writes, as it passes."""

    maps = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    products = (torch.matmul, Tensor.matmul, Tensor.__matmul__)

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        written = call_openly(self, func, args, kwargs or {})
        if func in self.maps or (func in self.products and args[1].ndim == 2):
            self.total += written.numel()
        return written


class _Flops(FlopCounterMode):
    """PyTorch's counter without its sums by module, for which it would put hooks on all modules of all threads."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=_fused_on_cpu())
        self.mod_tracker = _Whole()  # type: ignore[assignment]


class _Whole:
    """Stands for PyTorch's tracker of the modules that are running, and knows the whole only."""

    parents = ("Global",)

    def __enter__(self) -> "_Whole":
        return self

    def __exit__(self, *_: Any) -> None:
        pass


@contextmanager
def _as_it_was(model: Callable) -> Iterator[None]:
    """Put back the buffers of a model, and the random numbers, of a pass that may change them: one in training."""
    if not (isinstance(model, nn.Module) and any(module.training for module in model.modules())):
        yield
        return
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {t.device for t in chain(model.parameters(), model.buffers()) if t.device.type == "cuda"}
    with torch.random.fork_rng([*devices]):
        try:
            yield
        finally:
            for buffer, before in kept:
                buffer.copy_(before)


def _fused_on_cpu() -> dict[Any, Any]:
    """The counter of PyTorch knows the fused kernels of CUDA only; this is the one of the CPU."""

    def flops(q_shape: Any, k_shape: Any, v_shape: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q_shape, k_shape, v_shape)

    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flops}
