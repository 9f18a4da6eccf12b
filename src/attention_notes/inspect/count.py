"""Count what a model has and what a pass of it costs: parameters, multiply-accumulates, activations."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def count_parameters(model: nn.Module) -> int:
    """Number of parameters; a shared one counts once."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: Callable, *inputs: Tensor, **options: Any) -> int:
    """Multiply-accumulates of one forward pass, attention included: what papers call FLOPs.

    A MAC is two floating-point operations. Fused attention is counted as the two products that it is, ``n m d`` and
    ``n m d_v`` a head. Works on any device; on ``meta`` nothing is computed.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_fused_on_cpu())
    with torch.no_grad(), counter:
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
    with torch.no_grad(), counter:
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
        written = func(*args, **(kwargs or {}))
        if func in self.maps or (func in self.products and args[1].ndim == 2):
            self.total += written.numel()
        return written


def _fused_on_cpu() -> dict[Any, Any]:
    """The counter of PyTorch knows the fused kernels of CUDA only; this is the one of the CPU."""

    def flops(q_shape: Any, k_shape: Any, v_shape: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q_shape, k_shape, v_shape)

    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flops}
