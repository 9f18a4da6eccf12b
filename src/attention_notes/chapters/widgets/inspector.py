"""The attention inspector over text: pick a token, a layer and a head, and see which tokens it looks at.

Weights travel as their square roots, one byte each: a small weight keeps its digits, and zero stays zero. A root is off
by half of its layer's ``step`` at most, so a weight ``w`` by about ``step * sqrt(w)``. ``live.inspector_image`` is the
same over a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attention_notes.chapters import plots
from attention_notes.chapters.widgets import Live, pack


class Look(NamedTuple):
    """The attention of one layer in a text: ``weights`` of every head, and the words of the queries and the keys."""

    weights: Float[Tensor, "h n m"]
    queries: Sequence[str]
    keys: Sequence[str]


def of_transformer(
    maps: Mapping[str, Float[Tensor, "b h n m"]], source: Sequence[str], target: Sequence[str], *, which: int = 0
) -> dict[str, Look]:
    """What ``record_attention`` recorded of an encoder and a decoder, with the tokens of its queries and keys.

    Args:
        maps: the recorded weights, by the names of ``papers.transformer.Transformer``.
        source: the tokens that the encoder read, and
        target: those that the decoder was given; padding behind them is left out.
        which: text of the batch.
    """
    looks = {}
    for name, weights in maps.items():
        decoder, cross = name.startswith("decoder"), name.endswith("cross")
        queries, keys = target if decoder else source, target if decoder and not cross else source
        kind = "decoder, cross-attention" if cross else "decoder, causal" if decoder else "encoder"
        number = int(name.split(".")[2]) + 1
        looks[f"{kind}, layer {number}"] = Look(weights[which, :, : len(queries), : len(keys)], queries, keys)
    return looks


def over_text(looks: Mapping[str, Look], *, first: str | None = None, query: int = 0) -> Live:
    """An inspector of words: queries above, keys below, a key brighter and with a number the larger its weight.

    Args:
        looks: the layers by the names that a reader picks from.
        first: the layer to begin with, the last when not given, and
        query: the token whose row is shown first, counted from 0.

    Raises:
        ValueError: if words and weights do not match, or there is more than a component can hold.
    """
    for name, (weights, queries, keys) in looks.items():
        if weights.shape[-2:] != (len(queries), len(keys)):
            raise ValueError(
                f"{name!r} has weights {tuple(weights.shape)} for {len(queries)} queries, {len(keys)} keys"
            )
    first = first or list(looks)[-1]
    layers = [_text_layer(name, look) for name, look in looks.items()]
    data = {"look": "text", "layers": layers, "first": {"layer": list(looks).index(first), "query": 1 + query}}
    weights, queries, keys = looks[first]
    still = plots.heatmap(weights.mean(0), rows=queries, columns=keys)
    alt = (
        f"An attention inspector over text. Choose a layer ({', '.join(looks)}), a head and a token, and it shows how "
        f"much that token looks at every other. Where scripts are off, a map of the weights of {first}, mean of the "
        f"heads, {len(queries)} queries down and {len(keys)} keys across."
    )
    return Live("inspector", data, alt=alt, still=still)


def planes_of(weights: Float[Tensor, "*b h n m"]) -> tuple[list[str], Float[Tensor, "*b p n m"]]:
    """The heads behind their mean; a single head stands alone."""
    heads = weights.shape[-3]
    if heads == 1:
        return ["the only head"], weights
    mean = weights.mean(-3, keepdim=True)
    return [f"mean of {heads} heads", *(f"head {i + 1}" for i in range(heads))], torch.cat([mean, weights], -3)


def _text_layer(name: str, look: Look) -> dict[str, Any]:
    planes, weights = planes_of(look.weights.float())
    slots = {"queries": [list(range(1, 1 + len(look.queries)))], "answers": [list(range(1, 1 + len(look.keys)))]}
    words = {"asks": list(look.queries), "told": list(look.keys)}
    return {"name": name, "planes": planes, "weights": pack(weights[None, None].sqrt()), **slots, **words}
