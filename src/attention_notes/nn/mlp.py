"""The two-layer perceptron that every Transformer block applies to each token by itself."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.initialise import OwnLayers


class MLP(OwnLayers):
    """The position-wise feed-forward network, W_2 φ(W_1 x + b_1) + b_2 (Vaswani et al. 2017, equation 2).

    Args:
        dim: width ``c`` of the tokens, in and out.
        hidden: width between the two layers.
        activation: makes φ; ``nn.ReLU`` in the Transformer, ``nn.GELU`` in ViT.
        dropout: probability of dropping a hidden unit or an output.
    """

    def __init__(
        self, dim: int, *, hidden: int, activation: Callable[[], nn.Module] = nn.GELU, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.activation = activation()
        self.contract = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Expand, activate, project back."""
        return self.dropout(self.contract(self.dropout(self.activation(self.expand(x)))))
