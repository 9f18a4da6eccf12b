"""Record the attention weights of any model while it runs; rollout, and how far heads look, follow from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.attention import attention_weights


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the attention weights of every layer of ``model`` while its fused kernels keep running.

    Works on any model that calls ``F.scaled_dot_product_attention``, from this package or another. The weights are
    computed beside the fused kernel by the literal equation, so the model's outputs do not change.

    Yields:
        A dictionary, filled by each forward pass: the name of the innermost module that attended (as in
        ``model.named_modules()``) to weights ``b h n m``. A module that attends again adds ``name#2``, ``name#3``...

    Raises:
        RuntimeError: when the context closes and no attention was seen: the model did not run, or has none.

    Example:
        >>> with record_attention(model) as maps:
        ...     model(images)
        >>> maps["blocks.0.attention"].shape
    """
    maps: dict[str, Tensor] = {}
    inside: list[str] = []
    handles = []
    fused = F.scaled_dot_product_attention

    def leave(*_: Any) -> None:
        inside.pop()

    def recorded(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if inside:
            with torch.no_grad():
                weights = _weights(query, key, *args, **kwargs)
            maps[_unused(inside[-1], maps)] = weights
        return fused(query, key, value, *args, **kwargs)

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # nn.TransformerEncoderLayer's own kernel cannot be looked into
    try:
        with patch.object(F, "scaled_dot_product_attention", recorded):
            yield maps
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for handle in handles:
            handle.remove()
    if not maps:
        raise RuntimeError(
            f"no softmax attention ran inside record_attention({type(model).__name__}): "
            "call the model inside the with-block, or choose a model that has some"
        )


def _unused(name: str, maps: dict[str, Tensor]) -> str:
    times = sum(entry == name or entry.startswith(f"{name}#") for entry in maps)
    return f"{name}#{times + 1}" if times else name


def _weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The literal weights for the arguments of the fused kernel, less ``value``."""
    if is_causal:
        attn_mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    return attention_weights(query, key, mask=attn_mask, scale=scale)


def rollout(maps: Mapping[str, Float[Tensor, "b h n n"]]) -> Float[Tensor, "b n n"]:
    """Attention rollout: how much of each input token has reached each output token, through all recorded layers.

        Ã = A'_L ... A'_1,   A'_l = (Ā_l + I) / 2

    with Ā_l the mean of a layer's heads, and one half for the residual path (Abnar & Zuidema 2020,
    section 3). It follows weights alone: it knows nothing of the values, the MLPs and the norms.

    Args:
        maps: what ``record_attention`` recorded of self-attention, in the order of the layers.

    Raises:
        ValueError: if there are no maps, or if they are not square and of one shape.
    """
    shapes = sorted({(m.shape[0], *m.shape[-2:]) for m in maps.values()})
    if len(shapes) != 1 or shapes[0][1] != shapes[0][2]:
        raise ValueError(f"rollout needs self-attention over one sequence; got (batch, queries, keys) of {shapes}")
    layers = [m.mean(dim=-3) for m in maps.values()]
    total = torch.eye(shapes[0][1], device=layers[0].device, dtype=layers[0].dtype).expand_as(layers[0])
    for weights in layers:
        total = (weights @ total + total) / 2
    return total


def attention_span(
    weights: Float[Tensor, "b h n m"], *, queries: tuple[int, int], keys: tuple[int, int]
) -> Float[Tensor, " h"]:
    """How far each head looks: the distance from query to key, averaged with the weights (ViT, section 4.5).

    Args:
        weights: rows that sum to one, the queries and the keys row by row.
        queries: rows and columns of the queries' grid.
        keys: rows and columns of the keys' grid, which covers the same square: other than ``queries`` where keys were
            pooled.

    Returns:
        One number a head, in sides of the square; two cells of a grid are as far apart as their middles.

    Raises:
        ValueError: if the grids do not have one cell for each query and key.
    """
    for name, (rows, columns), count in (("queries", queries, weights.shape[-2]), ("keys", keys, weights.shape[-1])):
        if rows * columns != count:
            raise ValueError(f"{count} {name}, but a grid of {rows} x {columns}; leave out tokens that have no place")
    distances = torch.cdist(_middles(*queries), _middles(*keys)).to(weights)
    return (weights * distances).sum(-1).mean((0, 2))


def _middles(rows: int, columns: int) -> Tensor:
    y, x = (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns
    return torch.cartesian_prod(y, x)
