"""Run a model in evaluation, also where other threads do the same with it or with parts of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_LOCK = threading.Lock()
_HELD: dict[nn.Module, tuple[int, bool]] = {}  # how many contexts hold a module in evaluation, and its own mode


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation, and each part of it back into its own mode when the last context over it ends.

    A mode belongs to a module, not to a thread: whoever trains the same model meanwhile trains without dropout.
    """
    held = [*model.modules()]
    with _LOCK:
        for module in held:
            count, training = _HELD.get(module, (0, module.training))
            _HELD[module] = count + 1, training
        model.eval()
    try:
        yield
    finally:
        with _LOCK:
            modes = []
            for module in held:
                count, training = _HELD.pop(module)
                if count > 1:
                    _HELD[module] = count - 1, training
                else:
                    modes.append((module, training))
            for module, training in modes:  # parents first: a part may be in another mode than the whole
                if _HELD and any(part in _HELD for part in module.modules()):
                    module.training = training
                else:
                    module.train(training)
