"""Record the attention weights of any model while it runs."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attention_notes.inspect.listen import call_openly, in_this_thread, listen, unlisten
from attention_notes.nn.attention import attention_weights


@contextmanager
def record_attention(model: nn.Module, *, gradients: bool = False) -> Iterator[dict[str, Tensor]]:
    """Record the attention weights of every layer of ``model`` while its fused kernels keep running.

    Works on any model, from this package or another, whose attention is a call of ``F.scaled_dot_product_attention``,
    that of ``nn.MultiheadAttention``, with or without ``need_weights``, or written out: a softmax over the last axis
    whose result, perhaps after dropout, is multiplied with values. Next to the fused kernel the weights are computed
    by the literal equation, so the model's outputs do not change; weights that the model computes itself are kept.

    With ``gradients`` the weights belong to the graph: attention is computed from them instead of by the fused kernel,
    so that ``torch.autograd.grad(logit, maps["blocks.0.attention"])`` works, a second time as well. The outputs then
    agree with the fused kernel's to rounding, and the graph keeps ``n x m`` weights of each layer. Where no parameter
    needs a gradient, the weights themselves do. Leave checkpointing off: it would compute them again.

    Only calls by the thread that enters the context are recorded, and nothing that another thread does is changed: any
    number of threads may record any models, also the same one. Contexts may be nested, over the same model or over
    parts of it, and may end in any order; a context that ends in another thread than it began in leaves a mode without
    effect behind, until that thread records again. While the context lasts, ``nn.MultiheadAttention`` takes no fast
    path in this thread, and a compiled model is traced anew, with the recording in it; where it was compiled with
    ``fullgraph=True``, PyTorch refuses what it cannot trace so, in 2.13 ``Tensor.unflatten``.

    Args:
        model: the model; it is called inside the context.
        gradients: whether the weights belong to the graph.

    Yields:
        A dictionary, filled by each forward pass: the name of the innermost module that attended (as in
        ``model.named_modules()``) to weights ``b h n m``, before dropout. A module that attends again adds ``name#2``,
        ``name#3``... Weights that a model computes without an axis of heads have none.

    Raises:
        RuntimeError: when the context closes and no attention was recorded: the model was not called in it, has no
            attention, or has one of which Python calls no function of PyTorch. With ``gradients``, if the model is
            called where gradients are off.

    Example:
        >>> with record_attention(model) as maps:
        ...     model(images)
        >>> maps["blocks.0.attention"].shape
    """
    recorder = _Recorder(model, gradients)
    handles = []
    for name, module in model.named_modules():
        entered = in_this_thread(partial(recorder.enter, name), elsewhere=recorder.pass_by)
        handles.append(module.register_forward_pre_hook(entered))
        handles.append(module.register_forward_hook(in_this_thread(recorder.leave), always_call=True))
    recorders = _HERE.recorders  # of this thread: the context may end in another
    recorders.append(recorder)
    listen(_LISTENER)
    try:
        yield recorder.maps
    finally:
        for handle in handles:
            handle.remove()
        recorders.remove(recorder)
        if not _HERE.recorders:
            unlisten(_LISTENER)
            _HERE.softmaxes.clear()
    if not recorder.maps:
        raise RuntimeError(recorder.nothing())


class _Recorder:
    """What one context has recorded, and the names of the modules that are running, outermost first."""

    def __init__(self, model: nn.Module, gradients: bool) -> None:
        self.model, self.gradients = type(model).__name__, gradients
        self.maps: dict[str, Tensor] = {}
        self.running: list[str] = []
        self.softmaxes: dict[str, None] = {}  # the modules in which a softmax ran that may have been weights
        self.ran = self.ran_elsewhere = False

    def enter(self, name: str, *_: Any) -> None:
        if self.gradients and not self.running and not torch.is_grad_enabled():
            raise RuntimeError("the weights can have no gradients under no_grad(): call the model outside of it")
        self.ran = True
        self.running.append(name)

    def leave(self, *_: Any) -> None:
        if self.running:  # else the context began while the module ran
            self.running.pop()
        if not any(recorder.running for recorder in _HERE.recorders):
            _HERE.softmaxes.clear()

    def pass_by(self, *_: Any) -> None:
        self.ran_elsewhere = True

    def keep(self, weights: Tensor) -> None:
        name, times = self.running[-1], 1
        while (f"{name}#{times}" if times > 1 else name) in self.maps:
            times += 1
        self.maps[f"{name}#{times}" if times > 1 else name] = weights if self.gradients else weights.detach()

    def nothing(self) -> str:
        """Why there are no maps, and what to do."""
        where = f"inside record_attention({self.model})"
        if not self.ran:
            told = "in another thread only: enter the context in the thread that calls it"
            return f"the model did not run {where}" + (f", or {told}" if self.ran_elsewhere else ": call it there")
        if self.softmaxes:
            names = ", ".join(repr(name) for name in [*self.softmaxes][:3])
            return (
                f"no softmax attention that can be recorded ran {where}: there is a softmax in {names}, but it was not "
                "multiplied with values by matmul, bmm or einsum; switch the model to fused attention, as with "
                'attn_implementation="sdpa" in transformers and timm.layers.set_fused_attn(True) before building'
            )
        return (
            f"no softmax attention ran {where}: choose a model that has some, or one that computes it by functions of "
            "PyTorch: what runs in a scripted module or in kernels of other packages cannot be seen; in transformers "
            'attn_implementation="sdpa" can'
        )


class _Here(threading.local):
    """What this thread records, and the softmaxes that it has computed lately, each as it is and as it was recorded."""

    def __init__(self) -> None:
        self.recorders: list[_Recorder] = []
        self.softmaxes: list[tuple[Tensor, Tensor]] = []
        self.heads: list[int] = []  # of each nn.MultiheadAttention that is running


_HERE = _Here()
_SOFTMAXES = (torch.softmax, Tensor.softmax, F.softmax)
_LATER_THE_SAME = (F.dropout, torch.dropout, Tensor.to, Tensor.type_as, Tensor.half, Tensor.bfloat16, Tensor.contiguous)
_MASKS = (torch.masked_fill, Tensor.masked_fill)
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.einsum)
_ATTENTIONS = (F.scaled_dot_product_attention, F.multi_head_attention_forward)
_LOOKED_AT = frozenset((*_ATTENTIONS, *_SOFTMAXES, *_LATER_THE_SAME, *_MASKS, *_PRODUCTS))


class _Listener(TorchFunctionMode):
    """Gives this thread's recorders what attention they want, and passes on everything else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inside = [recorder for recorder in tuple(_HERE.recorders) if recorder.running]
        if not inside or func not in _LOOKED_AT or (not torch.compiler.is_compiling() and _was_traced(sys._getframe())):
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attended(inside, *args, **kwargs)
        if func in _PRODUCTS:
            _multiplied(inside, [given for given in _flat(*args, *kwargs.values()) if isinstance(given, Tensor)])
        if func is F.multi_head_attention_forward:
            _HERE.heads.append(kwargs["num_heads"] if "num_heads" in kwargs else args[4])
            try:
                return call_openly(self, func, args, kwargs)
            finally:
                _HERE.heads.pop()
        out = func(*args, **kwargs)
        if func in _SOFTMAXES:
            return _softmax(inside, out, kwargs.get("dim", args[1] if len(args) > 1 else None))
        if func in _LATER_THE_SAME or func in _MASKS:
            _follow(args[0], out, masked=func in _MASKS)
        return out


_LISTENER = _Listener()


def _was_traced(frame: FrameType | None) -> bool:
    """Whether a graph of ``torch.compile`` with the eager backend runs: its tracing has recorded what it calls."""
    for _ in range(8):  # around the call may be wrappers that check types
        if frame is None or frame.f_back is None:
            return False
        if frame.f_code.co_filename.startswith("<eval_with_key>"):
            return "_dynamo" in frame.f_back.f_code.co_filename
        frame = frame.f_back
    return False


def _attended(
    inside: Sequence[_Recorder],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Fused attention, with its weights beside it; from its weights where a recorder wants gradients."""
    literal, mask, many = any(recorder.gradients for recorder in inside), attn_mask, key
    if is_causal:
        if attn_mask is not None:
            raise RuntimeError("attn_mask and is_causal=True exclude each other, as in the fused kernel")
        mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if enable_gqa:
        many = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    with nullcontext() if literal else torch.no_grad():
        weights = attention_weights(query, many, mask=mask, scale=scale)
    if literal:
        _need_gradient(weights)
    for recorder in inside:
        recorder.keep(weights)
    if literal:
        if enable_gqa:
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
        return F.dropout(weights, dropout_p) @ value
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _softmax(inside: Sequence[_Recorder], out: Tensor, dim: int | None) -> Tensor:
    """Remember what may be weights; those of ``nn.MultiheadAttention`` get back the axis of their heads."""
    if out.ndim < 3 or dim not in (-1, out.ndim - 1):
        return out
    recorded = out.unflatten(0, (-1, _HERE.heads[-1])) if _HERE.heads else out
    if any(recorder.gradients for recorder in inside):
        _need_gradient(recorded)
    if recorded is not out:
        out = recorded.flatten(0, 1)
    _remember(out, recorded)
    for recorder in inside:
        recorder.softmaxes[recorder.running[-1]] = None
    return out


def _remember(out: Tensor, recorded: Tensor) -> None:
    _HERE.softmaxes.append((out, recorded))
    del _HERE.softmaxes[:-8]  # what is never multiplied is let go


def _follow(given: Any, out: Tensor, *, masked: bool) -> None:
    """Remember what was made of weights: they were recorded before dropout, and after a mask."""
    for pair in _HERE.softmaxes:
        if pair[0] is given and out is not given:
            if masked:
                _forget(pair[1])
            _remember(out, out if masked else pair[1])
            return


def _forget(recorded: Tensor) -> None:
    _HERE.softmaxes[:] = [pair for pair in _HERE.softmaxes if pair[1] is not recorded]


def _multiplied(inside: Sequence[_Recorder], operands: Sequence[Tensor]) -> None:
    """Record the operand that is a softmax, if another one of as many axes can be its values."""
    for given, recorded in _HERE.softmaxes:
        if any(given is operand for operand in operands):
            if any(operand is not given and operand.ndim == given.ndim for operand in operands):
                _forget(recorded)
                for recorder in inside:
                    recorder.keep(recorded)
            return


def _flat(*given: Any) -> Iterator[Any]:
    for one in given:
        if isinstance(one, (list, tuple)):  # as einsum takes its operands
            yield from one
        else:
            yield one


def _need_gradient(weights: Tensor) -> None:
    """Let weights of frozen parameters have a gradient of their own."""
    if torch.is_grad_enabled() and not weights.requires_grad:
        weights.requires_grad_()
