"""Look at the functions of PyTorch that one thread calls: nothing of PyTorch is replaced, and no other thread is seen.

A ``TorchFunctionMode`` is told of each function of PyTorch that Python calls in its thread. What is here lets such
modes end in any order, look into the one Python function that would hide attention from them, and keeps hooks, which
every thread would run, to the thread that registered them.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._device import DeviceContext


def listen(mode: TorchFunctionMode) -> None:
    """Tell ``mode`` of what this thread calls, until ``unlisten``, unless it is told already.

    It goes under the modes that are there, as ``torch.set_default_device`` does, and directly above that one: a
    ``with`` block around another mode takes away the mode on top when it ends, and so never this one.
    """
    stack = _get_current_function_mode_stack()
    if mode not in stack:
        above = [_pop_mode() for other in stack if not isinstance(other, DeviceContext)]
        for other in (mode, *reversed(above)):
            _push_mode(other)


def unlisten(mode: TorchFunctionMode) -> None:
    """Undo ``listen``, whatever modes have begun or ended in this thread since."""
    if mode in _get_current_function_mode_stack():
        above = []
        while (other := _pop_mode()) is not mode:
            above.append(other)
        for other in reversed(above):
            _push_mode(other)


def call_openly(
    mode: TorchFunctionMode, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call ``func``, and tell ``mode`` also of what ``F.multi_head_attention_forward`` calls.

    That is a Python function which a mode sees as one: linear maps and the attention inside of it would be hidden.
    """
    if func is F.multi_head_attention_forward:
        with mode:
            return _open_multi_head_attention(*args, **kwargs)
    return func(*args, **kwargs)


def _without_dispatch(function: Any) -> Callable[..., Any]:
    """A copy of a function of ``torch.nn.functional`` that runs its own lines and does not look for modes first."""
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


_open_multi_head_attention = _without_dispatch(F.multi_head_attention_forward)


def in_this_thread(hook: Callable[..., None], elsewhere: Callable[..., None] | None = None) -> Callable[..., None]:
    """A hook that runs ``hook`` in the thread that calls this function now, and ``elsewhere`` in any other.

    A module's hooks run in every thread that calls the module.
    """
    here = threading.local()
    here.is_this = True
    return partial(_run, here, hook, elsewhere)


def _run(here: Any, hook: Callable[..., None], elsewhere: Callable[..., None] | None, *given: Any) -> None:
    if getattr(here, "is_this", False):
        hook(*given)
    elif elsewhere is not None:
        elsewhere(*given)
