"""Where the tokens of a CaiT lie on the image, in layers where only the class token asks."""

import torch
from torch import Tensor

from attention_notes.inspect.token_geometry import NAMES, Grid, Places, extra_tokens, places_of
from attention_notes.papers.cait.model import ClassAttention, ClassAttentionStage


@places_of.register
def _(module: ClassAttention, x: Tensor, grid: Grid) -> Places | None:
    """One query, the class token's; the keys are that token and the patches."""
    whole = Places.one(grid, x.shape[1])
    return whole and Places(grid, grid, whole.extra, torch.ones(1, 1, dtype=torch.long), whole.answers, whole.names)


@extra_tokens.register
def _(stage: ClassAttentionStage) -> tuple[str, ...] | None:
    return NAMES[:1]
