"""Weights stored column by column, in which order a CPU reads them faster for a single token, as a context."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from attention_notes.nn.tokens import TokenTable


@contextmanager
def column_major(model: nn.Module) -> Iterator[None]:
    """Store the weights of linear maps, and the tables of tokens that give logits, in column-major order meanwhile.

    PyTorch stores a weight of shape ``(outputs, inputs)`` row by row. One text that is written token by token needs
    products with a single row, which read each weight once, and the library behind them reads it faster column by
    column. This holds where a weight has at least as many outputs as inputs; others stay as they are. With several
    texts at once it is slower. Shapes, names and numbers stay, products agree to rounding, and only ``stride()`` tells
    the difference; files that want weights row by row, such as safetensors, are written before or after.

    Args:
        model: on a CPU. Each weight is copied once at the beginning and once at the end.

    Raises:
        ValueError: if ``model`` is not on a CPU, where this has been measured.

    Example:
        >>> with column_major(model):
        ...     text = model.greedy(prompt, end=0, limit=100)
    """
    elsewhere = sorted({parameter.device.type for parameter in model.parameters()} - {"cpu"})
    if elsewhere:
        raise ValueError(f"this layout is for a CPU, and the model is on {', '.join(elsewhere)}: call it without it")
    parts = [part for part in model.modules() if isinstance(part, nn.Linear | TokenTable)]
    weights = {part.weight for part in parts if part.weight.shape[0] >= part.weight.shape[1]}
    changed = [weight for weight in weights if weight.is_contiguous()]
    for weight in changed:
        weight.data = weight.data.T.contiguous().T
    try:
        yield
    finally:
        for weight in changed:
            weight.data = weight.data.contiguous()
