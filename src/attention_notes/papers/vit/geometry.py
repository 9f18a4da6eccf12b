"""Where the tokens of a Vision Transformer lie on the image."""

from torch import Tensor

from attention_notes.inspect.token_geometry import NAMES, Grid, Pair, Places, Window, extra_tokens, places_of, window
from attention_notes.papers.vit.model import PatchEmbedding, SelfAttention, VisionTransformer


@window.register
def _(module: PatchEmbedding, size: Pair) -> Window:
    return Window(module.patch, module.patch, (0, 0), module.grid)


@places_of.register
def _(module: SelfAttention, x: Tensor, grid: Grid) -> Places | None:
    return Places.one(grid, x.shape[1])


@extra_tokens.register
def _(model: VisionTransformer) -> tuple[str, ...] | None:
    """The pooling's own, then the registers."""
    count = 0 if model.registers is None else model.registers.shape[1]
    registers = tuple(f"register {i + 1}" for i in range(count))
    return NAMES[: model.pooling.extra] + registers if model.pooling.extra <= len(NAMES) else None
