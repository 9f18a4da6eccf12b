"""GLU Variants Improve Transformer, Shazeer 2020, arXiv 2002.05202.

In one sentence: in the feed-forward network of a Transformer, the product of two linear maps, one of them behind a
non-linearity, takes the place of the first linear map and its non-linearity.

The gated linear unit is from Dauphin et al. 2017 (arXiv 1612.08083), where the two linear maps are convolutions.

Departures:
    - GELU is x Φ(x), as in the text. T5 v1.1 of transformers approximates it by tanh:
      ``partial(GatedFFN, activation=partial(nn.GELU, approximate="tanh"))``.
    - Swish has β = 1, as in all networks of the paper; ``Swish`` takes another.
    - Dropout drops hidden units of each token by itself. The authors' code (Mesh TensorFlow) drops a hidden unit for
      all tokens of a sequence.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.initialise import OwnLayers, zero_bias
from attention_notes.nn.mlp import MLP

Model = TypeVar("Model", bound=nn.Module)


class FFN(OwnLayers):
    """φ(x W_1) W_2, the feed-forward network of T5 (equations 2 and 3).

    It is the Transformer's without biases. W_1 is ``c`` x ``hidden``, W_2 is ``hidden`` x ``c``.

    Args:
        dim: width ``c`` of the tokens, in and out.
        hidden: number of hidden units, d_ff.
        activation: makes φ; ``nn.ReLU``, ``nn.GELU`` or ``nn.SiLU``, which is Swish with β = 1.
        bias: whether both linear maps have a bias; those of the paper have none.
        dropout: probability of dropping a hidden unit or an output.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden, bias=bias)
        self.activation = activation()
        self.contract = nn.Linear(hidden, dim, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.initialise(as_in_t5)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Expand, activate, project back."""
        return self.dropout(self.contract(self.dropout(self.activation(self.expand(x)))))


class GLU(OwnLayers):
    """φ(x W + b) ⊗ (x V + c): each hidden unit is the product of a gate and a value (equations 4 and 5).

    W and V are ``dim`` x ``hidden``, b and c are biases.

    Args:
        dim: width of the tokens.
        hidden: number of hidden units, the width of the output.
        activation: makes φ; those of the paper are in ``GATES``.
        bias: whether there are b and c; the networks of the paper have none.
    """

    def __init__(
        self, dim: int, *, hidden: int, activation: Callable[[], nn.Module] = nn.Sigmoid, bias: bool = False
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=bias)
        self.activation = activation()
        self.value = nn.Linear(dim, hidden, bias=bias)
        self.initialise(as_in_t5)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b s"]:
        """The ``s`` hidden units of each token."""
        return self.activation(self.gate(x)) * self.value(x)


class GatedFFN(OwnLayers):
    """(φ(x W) ⊗ x V) W_2, a feed-forward network of three matrices (equation 6).

    With two thirds of the hidden units it has as many weights as ``FFN``: see ``two_thirds``.

    Arguments as in ``FFN``; ``activation`` is φ of the gates.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        activation: Callable[[], nn.Module] = nn.Sigmoid,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.glu = GLU(dim, hidden=hidden, activation=activation, bias=bias)
        self.contract = nn.Linear(hidden, dim, bias=bias)
        self.dropout = nn.Dropout(dropout)
        as_in_t5(self.contract)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Gate, project back."""
        return self.dropout(self.contract(self.dropout(self.glu(x))))


class Swish(nn.Module):
    """x σ(β x) (section 1); ``nn.SiLU`` is that of β = 1.

    Args:
        beta: β; with 0 it is x / 2, and the larger it is, the nearer to ReLU.
    """

    def __init__(self, *, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Entry by entry."""
        return x * (self.beta * x).sigmoid()


# φ of equations 4 to 6
GATES: dict[str, Callable[[], nn.Module]] = {
    "GLU": nn.Sigmoid,
    "Bilinear": nn.Identity,
    "ReGLU": nn.ReLU,
    "GEGLU": nn.GELU,
    "SwiGLU": nn.SiLU,
}
# The networks of Table 1, made as NETWORKS["SwiGLU"](768, hidden=2048).
NETWORKS: dict[str, Callable[..., FFN | GatedFFN]] = {
    "ReLU": partial(FFN, activation=nn.ReLU),
    "GELU": partial(FFN, activation=nn.GELU),
    "Swish": partial(FFN, activation=nn.SiLU),
    **{name: partial(GatedFFN, activation=gate) for name, gate in GATES.items()},
}


def two_thirds(hidden: int, *, multiple: int = 1) -> int:
    """Hidden units with which three matrices have the weights of two matrices with ``hidden`` units (section 2, end).

    Args:
        hidden: d_ff of the network with two matrices.
        multiple: the result is rounded up to a multiple of it; 256 in the code of LLaMA.

    Raises:
        ValueError: if a number is below 1.
    """
    if min(hidden, multiple) < 1:
        raise ValueError(f"hidden={hidden} and multiple={multiple} must both be 1 or more")
    return -(-2 * hidden // (3 * multiple)) * multiple


def with_gates(model: Model, network: Callable[..., nn.Module], *, hidden: Callable[[int], int] = two_thirds) -> Model:
    """Put ``network(c, hidden=..., dropout=...)`` in the place of every ``MLP`` of width ``c``, in the model itself.

    Args:
        model: any model of this package whose perceptrons are ``nn.mlp.MLP``.
        network: makes a feed-forward network, as ``NETWORKS["SwiGLU"]``.
        hidden: its hidden units, from those of the ``MLP``.

    Raises:
        ValueError: if there is no ``MLP`` inside the model.
    """
    found = [(name, old) for name, old in model.named_modules() if name and isinstance(old, MLP)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no MLP inside to put another network in the place of")
    for name, old in found:
        weight = old.expand.weight
        new = network(weight.shape[1], hidden=hidden(weight.shape[0]), dropout=old.dropout.p)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, new.to(weight).train(old.training))
    return model


def as_in_t5(layer: nn.Module, *, parts: int = 1) -> None:
    """How the authors' code starts: normal with a variance of one over the inputs, cut off at two deviations.

    ``VarianceScalingInitializer`` in ``mesh_tensorflow/layers.py`` at 0529176.
    """
    if isinstance(layer, nn.Linear):
        deviation = layer.in_features**-0.5
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        zero_bias(layer)
