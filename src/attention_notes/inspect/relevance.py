"""What follows from recorded weights: rollout, with and without gradients, and how far heads look."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


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
    total = _unmixed("rollout", maps)
    for weights in maps.values():
        total = (weights.mean(dim=-3) @ total + total) / 2
    return total


def gradient_rollout(
    maps: Mapping[str, Float[Tensor, "b h n n"]], score: Float[Tensor, "..."]
) -> Float[Tensor, "b n n"]:
    """Relevance of each input token to a score, by way of each output token: a rollout of what raises the score.

        R_0 = I,   R_l = R_{l-1} + Ā_l R_{l-1},   Ā_l = E_h[max(0, ∂y/∂A_l ⊙ A_l)]

    with y the score and E_h the mean of a layer's heads (Chefer, Gur & Wolf 2021, arXiv 2103.15679, equations 5 and 6).
    The row of the token that the head reads says which input tokens count: ``[:, 0, 1:]`` for a class token and its
    patches. Rows do not sum to one: the scale is that of the score.

    Args:
        maps: what ``record_attention(model, gradients=True)`` recorded of self-attention, in the order of the layers.
        score: one number for each sample, such as the logit of a class; or one number for all.

    Raises:
        ValueError: as ``rollout`` and ``attention_times_gradient`` do.
    """
    total = _unmixed("gradient_rollout", maps)
    for product in attention_times_gradient(maps, score).values():
        total = total + product.clamp(min=0).mean(dim=-3) @ total
    return total


def attention_times_gradient(
    maps: Mapping[str, Float[Tensor, "... _ _"]], score: Float[Tensor, "..."]
) -> dict[str, Float[Tensor, "... _ _"]]:
    """How each weight of each head acts on a score, to first order: A ⊙ ∂y/∂A, for each map.

    Positive where a larger weight raises the score y. It is the product inside of equation 5 of Chefer, Gur & Wolf
    (2021, arXiv 2103.15679), before the rectifier and the mean over heads. The graph stays as it is, so that other
    scores can follow.

    Args:
        maps: what ``record_attention(model, gradients=True)`` recorded.
        score: one number for each sample, such as the logit of a class; or one number for all.

    Raises:
        ValueError: if there are no maps, or if the score does not depend on them.
    """
    names = [name for name, weights in maps.items() if not weights.requires_grad]
    if names or not maps:
        raise ValueError(
            f"no gradients of {', '.join(map(repr, names)) or 'no maps'}: record with gradients=True, outside of "
            "no_grad(), and pass the maps as they are"
        )
    found = (
        torch.autograd.grad(score.sum(), [*maps.values()], retain_graph=True, allow_unused=True)
        if score.requires_grad
        else (None,)
    )
    if all(gradient is None for gradient in found):
        raise ValueError("the score does not depend on the maps: take it from the pass that they were recorded in")
    pairs = zip(maps.items(), found, strict=True)
    return {
        name: weights.detach() * gradient if gradient is not None else torch.zeros_like(weights)
        for (name, weights), gradient in pairs
    }


def _unmixed(name: str, maps: Mapping[str, Tensor]) -> Float[Tensor, "b n n"]:
    """Each token of itself alone: what a rollout starts from."""
    shapes = sorted({tuple(m.shape) for m in maps.values()})
    if len({(shape[0], *shape[-2:]) for shape in shapes}) != 1 or any(len(s) != 4 or s[2] != s[3] for s in shapes):
        raise ValueError(f"{name} needs self-attention over one sequence, b h n n; got {shapes}")
    batch, _, n, _ = shapes[0]
    first = next(iter(maps.values()))
    return torch.eye(n, device=first.device, dtype=first.dtype).expand(batch, n, n)


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
