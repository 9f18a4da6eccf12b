"""Where the probe of a MAP head looks."""

from math import prod

import torch
from torch import Tensor

from attention_notes.inspect.token_geometry import Grid, Places, extra_tokens, places_of
from attention_notes.papers.scaling_vit.model import AttentionPooling, ProbeAttention


@places_of.register
def _(module: ProbeAttention, x: Tensor, grid: Grid) -> Places | None:
    """One query, which is no token of the map, and is no key; the keys are the patches."""
    answers = torch.arange(2, 2 + prod(grid.size))[None]
    return Places(grid, grid, 1, torch.ones(1, 1, dtype=torch.long), answers, ("probe",))


@extra_tokens.register
def _(pooling: AttentionPooling) -> tuple[str, ...] | None:
    return ("probe",)
