"""Understanding the Effective Receptive Field in Deep CNNs, Luo, Li, Urtasun, Zemel, 2016, arXiv 1701.04128.

The idea: what an output takes its context from is not decided by what it could reach, but by the gradient that reaches
back from it to each input; so measure that.

The module holds the instruments (who depends on whom, and how strongly), the old ways to let elements of a sequence
share their content, all from tokens ``b n c`` to tokens, and one small reader that differs in its mixers only.

Departures: the paper sends a gradient of one into one output channel and looks at what arrives in the input image.
Here the size of the whole derivative is taken, over all channels of output and input, so that no two of them cancel.
The paper's models are convolutional; the instruments here take any model.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Layer = Callable[[Tensor], Tensor]
Position = int | tuple[int, int]  # a token, or a row and a column


def receptive_field(
    model: Layer, x: Float[Tensor, "b n c"] | Float[Tensor, "b ch y x"], *, position: Position
) -> Float[Tensor, " n"] | Float[Tensor, "y x"]:
    """How strongly each place of the input acts on one place of the output: the size of the derivative between them.

        R_j = ( 1/b Σ_samples Σ_{a, e} (∂ y_{p,a} / ∂ x_{j,e})² )^½

    with p the ``position``, and a and e the channels. A place that the model cannot see gives exactly zero.

    Args:
        model: takes ``x`` and returns tokens ``b n c`` or images ``b ch y x``; their number or size may be another.
        x: tokens, or images.
        position: which output: an index among tokens, a row and a column in an image; negative ones count from the end.

    Returns:
        One number for each token, or for each pixel, of the input.

    Raises:
        ValueError: if the model returns another kind of thing than it was given.
    """
    (field,) = _fields(model, x, [position])
    return field


def dependence(model: Layer, x: Float[Tensor, "b n c"]) -> Float[Tensor, "s n"]:
    """Who depends on whom: one row for each output token, its receptive field over the input tokens.

    Raises:
        ValueError: as ``receptive_field``.
    """
    return torch.stack(_fields(model, x, None))


def _fields(model: Layer, x: Tensor, at: Sequence[Position] | None) -> list[Tensor]:
    """The receptive fields of some outputs, or of all output tokens, from one forward pass."""
    x = x.detach().requires_grad_()
    # cuDNN does not differentiate a recurrence in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        y = model(x)
    if y.ndim != x.ndim or len(y) != len(x):
        raise ValueError(f"the model turned {tuple(x.shape)} into {tuple(y.shape)}: tokens or images should stay such")
    channel = -1 if x.ndim == 3 else 1
    places = y.movedim(channel, 0)  # channel, sample, place
    fields = []
    for position in range(y.shape[1]) if at is None else at:
        index = position if isinstance(position, tuple) else (position,)
        squares = x.new_zeros(())
        for feature in places[(slice(None), slice(None), *index)]:
            (gradient,) = torch.autograd.grad(feature.sum(), x, retain_graph=True)
            squares = squares + gradient.square().sum(channel)
        fields.append(squares.mean(0).sqrt())
    return fields


def theoretical_receptive_field(
    kernels: Sequence[int], *, strides: Sequence[int] | None = None, dilations: Sequence[int] | None = None
) -> int:
    """From the first to the last input that a stack of convolutions can reach, along one axis.

        1 + Σ_l (k_l - 1) d_l s_1 ... s_{l-1}

    It is a width, not a count: dilated layers may leave inputs out in between.

    Raises:
        ValueError: if the three do not describe the same number of layers.
    """
    strides, dilations = strides or [1] * len(kernels), dilations or [1] * len(kernels)
    if not len(kernels) == len(strides) == len(dilations):
        raise ValueError(
            f"{len(kernels)} kernels, {len(strides)} strides and {len(dilations)} dilations: each layer has one"
        )
    width, step = 1, 1  # step: inputs between two neighbours in the layer at hand
    for kernel, stride, dilation in zip(kernels, strides, dilations, strict=True):
        width += (kernel - 1) * dilation * step
        step *= stride
    return width


def path_length(layers: Iterable[nn.Module], x: Float[Tensor, "b n c"]) -> int:
    """How many of the layers it takes until every output depends on every input, found by derivatives.

    Use float64 for many layers: a product of many small derivatives ends at zero in float32.

    Raises:
        ValueError: if the layers run out before.
    """
    stack = nn.Sequential()
    for layer in layers:
        stack.append(layer)
        if bool((dependence(stack, x) > 0).all()):
            return len(stack)
    raise ValueError(f"after {len(stack)} layers some of the {x.shape[1]} outputs still do not depend on every input")


def free_weights(moves: Int[Tensor, "s n"]) -> int:
    """How many numbers are free in an n x n matrix W that commutes with each of the given reorderings of its input.

    W P = P W for the matrix P of every row of ``moves`` is a set of linear equations; this is the dimension of
    their solutions. With no reordering it is n², with all of them 2: one weight for oneself, one for all others.
    """
    n = moves.shape[1]
    eye = torch.eye(n, dtype=torch.float64)
    equations = [torch.kron(eye[move], eye) - torch.kron(eye, eye[move].mT.contiguous()) for move in moves.cpu()]
    return n * n - (int(torch.linalg.matrix_rank(torch.cat(equations))) if equations else 0)


class PositionMLP(nn.Module):
    """A fully connected layer across positions, y_i = Σ_j w_ij x_j + b_i: one weight for each pair of places."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.connect = nn.Linear(length, length)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Mix the tokens; there must be as many as the layer was built for, or it raises ``ValueError``."""
        if x.shape[1] != self.length:
            raise ValueError(f"{x.shape[1]} tokens, but the layer has weights for {self.length} places")
        return self.connect(x.transpose(1, 2)).transpose(1, 2)


class Recurrence(nn.Module):
    """A recurrent layer, h_i = f(x_i, h_{i-1}), read from the first token to the last.

    Args:
        dim: width ``c`` of the tokens and of the state.
        cell: makes the layer, as ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` do.
    """

    def __init__(self, dim: int, *, cell: Callable[..., nn.Module] = nn.RNN) -> None:
        super().__init__()
        self.recurrent = cell(dim, dim, batch_first=True)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Give the state after each token."""
        return self.recurrent(x)[0]


class Convolution(nn.Conv1d):
    """A convolution over tokens, y_i = Σ_t W_t x_{i s + t d} + b, with zeros beyond the ends.

    Args:
        dim: width ``c`` of the tokens.
        kernel: number of taps, odd.
        stride: s, every how many tokens there is an output: ceil(n / s) of them.
        dilation: d, tokens from one tap to the next.

    Raises:
        ValueError: if the kernel is even: it would have no middle.
    """

    def __init__(self, dim: int, *, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} has no middle; choose {kernel - 1} or {kernel + 1}")
        super().__init__(dim, dim, kernel, stride=stride, dilation=dilation, padding=kernel // 2 * dilation)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b s c"]:
        """Mix each token with those around it."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)
