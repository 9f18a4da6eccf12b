"""The layer of most Vision Transformers: two residual branches, each normalised before it."""

from torch import nn

from attention_notes.nn.drop_path import DropPath
from attention_notes.nn.initialise import Start, initialise
from attention_notes.nn.layer_scale import LayerScale
from attention_notes.nn.norms import layer_norm
from attention_notes.nn.protocols import Make, Tokens


class PreNormBlock(nn.Module):
    """Mix the tokens, then change each by itself.

        z'  = z  + attention(norm(z))
        z'' = z' + mlp(norm(z'))

    Args:
        dim: width ``c`` of the tokens, which are a row ``b n c`` or a map ``b gy gx c``.
        attention: module that mixes tokens.
        mlp: module that changes each token.
        norm: makes the norm before each of them from the width.
        dropout: probability of dropping what the attention adds.
        drop_path: probability that a sample skips a branch in training.
        layer_scale: what the factors on both branches start at; ``None`` for no factors.
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
        mlp: nn.Module,
        norm: Make = layer_norm,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.attention_norm = norm(dim)
        self.attention = attention
        self.attention_scale = nn.Identity() if layer_scale is None else LayerScale(dim, start=layer_scale)
        self.dropout = nn.Dropout(dropout)
        self.mlp_norm = norm(dim)
        self.mlp = mlp
        self.mlp_scale = nn.Identity() if layer_scale is None else LayerScale(dim, start=layer_scale)
        self.drop_path = DropPath(drop_path)

    def initialise(self, start: Start) -> None:
        """Draw the attention and the perceptron; norms and factors keep their ones."""
        initialise(self.attention, self.mlp, start=start)

    def forward(self, z: Tokens) -> Tokens:
        """Mix the tokens, then change each by itself."""
        z = self.drop_path(self.attention_scale(self.dropout(self.attention(self.attention_norm(z))))) + z
        return self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(z)))) + z
