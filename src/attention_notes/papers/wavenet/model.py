"""WaveNet: A Generative Model for Raw Audio, van den Oord et al. 2016, arXiv 1609.03499.

In one sentence: convolutions that see the past only, with dilations that double from layer to layer, let each sample of
a signal be predicted from thousands before it, all of them at once in training.

Departures:
    - The paper prints no numbers of layers or channels, so there are no variants; two taps a convolution, the default,
      follow from its Figure 3 and from the 1024 inputs of its blocks of ten layers. Initialisation is PyTorch's.
    - Figure 4 draws one 1 x 1 convolution behind the gates, from which both connections leave. Section 2.4 has
      "parameterised skip connections"; here the residual and the skip connection have a map each, so that the skip may
      have a width of its own. The last layer has no residual map, since nothing would read it.
    - Section 2.2 compands and then quantises, without saying how; ``encode`` rounds to the nearest of 256 values that
      are equally spaced from -1 to 1, both included.
    - The context stacks of section 2.6 and the learned upsampling of section 2.5 are left out: a local condition has
      the resolution of the signal.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Queue = deque[Tensor]  # the inputs of a convolution that its next steps need, the oldest first


class CausalConvolution(nn.Conv1d):
    """A convolution that sees the past only (section 2.1): zeros stand before the first position, none behind the last.

        y_t = b + Σ_i W_i x_{t - (k - 1 - i) d},   i = 0 ... k - 1

    The weights are those of ``nn.Conv1d``. With d = 1 it is a standard convolution, and with k = 1 a linear map of each
    position.

    Args:
        dim: width ``c`` of the tokens.
        out: width of the outputs.
        kernel: number k of taps.
        dilation: d, positions from one tap to the next.

    Raises:
        ValueError: if there is no tap, or no distance between taps.
    """

    def __init__(self, dim: int, *, out: int, kernel: int, dilation: int = 1) -> None:
        if kernel < 1 or dilation < 1:
            raise ValueError(f"kernel={kernel} and dilation={dilation}: both are 1 or more")
        super().__init__(dim, out, kernel, dilation=dilation)
        self.reach = (kernel - 1) * dilation  # how far back the first tap is

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n s"]:
        """All positions at once."""
        return super().forward(F.pad(x.transpose(1, 2), (self.reach, 0))).transpose(1, 2)

    def queue(self, batch: int) -> Queue:
        """What stands before the first position."""
        return deque([self.weight.new_zeros(batch, 1, self.in_channels)] * self.reach, maxlen=self.reach)

    def step(self, x: Float[Tensor, "b 1 c"], queue: Queue) -> Float[Tensor, "b 1 s"]:
        """The next position alone; it enters the queue, and the oldest one leaves."""
        taps = torch.cat([*islice(queue, 0, None, self.dilation[0]), x], 1)
        queue.append(x)
        return F.conv1d(taps.transpose(1, 2), self.weight, self.bias).transpose(1, 2)


class Layer(nn.Module):
    """A gated unit between two connections (equation 2 and Figure 4; with a condition, section 2.5).

        z    = tanh(W_f * x + V_f h) ⊙ σ(W_g * x + V_g h)
        x    <- x + W_r z          residual
        skip  = W_s z              to the output of the network

    Args:
        dim: width ``c`` of the residual stream and of z.
        skip: width of what goes to the output.
        kernel: taps of the convolutions W_f and W_g, which are one module with twice the outputs.
        dilation: distance of the taps.
        condition: width of h, None for no condition.
        last: whether no layer follows that would read the stream.

    Raises:
        ValueError: in ``forward`` and ``step``, if there is a condition without a map for it or the other way round.
    """

    def __init__(
        self, dim: int, *, skip: int, kernel: int, dilation: int, condition: int | None = None, last: bool = False
    ) -> None:
        super().__init__()
        self.convolution = CausalConvolution(dim, out=2 * dim, kernel=kernel, dilation=dilation)
        self.condition = None if condition is None else nn.Linear(condition, 2 * dim, bias=False)
        self.residual = None if last else nn.Linear(dim, dim)
        self.skip = nn.Linear(dim, skip)

    def forward(
        self, x: Float[Tensor, "b n c"], h: Float[Tensor, "b _"] | Float[Tensor, "b n _"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n s"]]:
        """The stream and the skip at all positions; ``h`` is one vector for all of them, or one for each."""
        return self._after(self.convolution(x), x, h)

    def step(
        self, x: Float[Tensor, "b 1 c"], queue: Queue, h: Float[Tensor, "b _"] | Float[Tensor, "b 1 _"] | None = None
    ) -> tuple[Float[Tensor, "b 1 c"], Float[Tensor, "b 1 s"]]:
        """The same for the next position alone."""
        return self._after(self.convolution.step(x, queue), x, h)

    def _after(self, mixed: Tensor, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """All that comes after the convolution, which is the only part that mixes positions."""
        if h is not None and self.condition is not None:
            given = self.condition(h)
            mixed = mixed + (given if h.ndim == 3 else given[:, None])
        elif h is not None or self.condition is not None:
            built = "no condition" if self.condition is None else f"condition={self.condition.in_features}"
            raise ValueError(f"the layer was built for {built}, but h is {'given' if h is not None else 'missing'}")
        f, g = mixed.chunk(2, -1)
        z = f.tanh() * g.sigmoid()
        return (x if self.residual is None else x + self.residual(z)), self.skip(z)


class Stack(nn.Module):
    """Layers on one residual stream; what they send past it is summed (Figure 4).

    Args:
        dim: width ``c`` of the stream.
        skip: width ``s`` of the sum.
        dilations: one for each layer, as ``doubling(512, blocks=3)``.
        kernel: taps of each convolution.
        condition: width of a condition, None for none.

    Raises:
        ValueError: if there is no layer.
    """

    def __init__(
        self, dim: int, *, skip: int, dilations: Sequence[int], kernel: int = 2, condition: int | None = None
    ) -> None:
        super().__init__()
        if not dilations:
            raise ValueError("no dilations, no layers: give one for each layer, as doubling(512) does")
        last = len(dilations) - 1
        layers = [
            Layer(dim, skip=skip, kernel=kernel, dilation=d, condition=condition, last=i == last)
            for i, d in enumerate(dilations)
        ]
        self.layers = cast("Sequence[Layer]", nn.ModuleList(layers))

    def forward(
        self, x: Float[Tensor, "b n c"], h: Float[Tensor, "b _"] | Float[Tensor, "b n _"] | None = None
    ) -> Float[Tensor, "b n s"]:
        """All positions at once; ``h`` as in ``Layer``."""
        skips = []
        for layer in self.layers:
            x, skip = layer(x, h)
            skips.append(skip)
        return torch.stack(skips).sum(0)

    def step(
        self,
        x: Float[Tensor, "b 1 c"],
        queues: Sequence[Queue],
        h: Float[Tensor, "b _"] | Float[Tensor, "b 1 _"] | None = None,
    ) -> Float[Tensor, "b 1 s"]:
        """The next position alone, with a queue for each layer."""
        skips = []
        for layer, queue in zip(self.layers, queues, strict=True):
            x, skip = layer.step(x, queue, h)
            skips.append(skip)
        return torch.stack(skips).sum(0)


def draw(logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
    """One token from the softmax of each row."""
    return torch.multinomial(logits.float().softmax(-1), 1)[:, 0]


class WaveNet(nn.Module):
    """The network of Figure 4: p(x_1 ... x_n) = Π p(x_t | x_1 ... x_{t-1}) (equation 1), a softmax for each factor.

    A causal convolution of one-hot tokens, the stack, then ReLU, 1 x 1, ReLU, 1 x 1. The output at position t is the
    prediction of the token at t + 1.

    Args:
        vocabulary: number ``v`` of tokens; 256 for samples that ``encode`` made.
        dim: width of the residual stream.
        skip: width of the skip connections and of the hidden layer before the output.
        dilations: one for each layer.
        kernel: taps of each convolution, also of the first.
        condition: width of a condition, None for none.

    Raises:
        ValueError: in ``forward``, if the tokens are no batch.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dim: int,
        skip: int,
        dilations: Sequence[int],
        kernel: int = 2,
        condition: int | None = None,
    ) -> None:
        super().__init__()
        self.first = CausalConvolution(vocabulary, out=dim, kernel=kernel)
        self.stack = Stack(dim, skip=skip, dilations=dilations, kernel=kernel, condition=condition)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(skip, skip), nn.ReLU(), nn.Linear(skip, vocabulary))

    @property
    def receptive_field(self) -> int:
        """How many tokens a prediction is made from: one, and what each convolution reaches back."""
        return 1 + sum(convolution.reach for convolution in self._convolutions())

    def forward(
        self, tokens: Int[Tensor, "b n"], h: Float[Tensor, "b _"] | Float[Tensor, "b n _"] | None = None
    ) -> Float[Tensor, "b n v"]:
        """Logits of the token that follows each position, all at once; ``h`` as in ``Layer``."""
        return self.head(self.stack(self.first(self._one_hot(tokens)), h))

    def queues(self, batch: int) -> list[Queue]:
        """What each convolution finds before the first token."""
        return [convolution.queue(batch) for convolution in self._convolutions()]

    def step(
        self,
        tokens: Int[Tensor, "b 1"],
        queues: Sequence[Queue],
        h: Float[Tensor, "b _"] | Float[Tensor, "b 1 _"] | None = None,
    ) -> Float[Tensor, "b 1 v"]:
        """Logits of what follows the newest token alone; the queues move on by it (Paine et al. 2016)."""
        x = self.first.step(self._one_hot(tokens), queues[0])
        return self.head(self.stack.step(x, queues[1:], h))

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "b n"],
        *,
        length: int,
        h: Float[Tensor, "b _"] | Float[Tensor, "b _ _"] | None = None,
        choose: Callable[[Tensor], Tensor] = draw,
    ) -> Int[Tensor, "b _"]:
        """Continue the tokens by ``length`` more, each of which is fed back before the next.

        Args:
            tokens: one at least.
            length: how many to add.
            h: one vector for all positions, or one for each but the last of the whole.
            choose: a token from the logits ``b v`` of each row.

        Raises:
            ValueError: if there is no token to begin with, or not a condition for each position.
        """
        n = tokens.shape[1]
        if n < 1 or length < 1:
            raise ValueError(f"{n} tokens to begin with and length={length}: both are 1 or more")
        if h is not None and h.ndim == 3 and h.shape[1] < n + length - 1:
            raise ValueError(f"conditions for {h.shape[1]} positions, but {n} + {length} - 1 are needed")
        queues, whole = self.queues(tokens.shape[0]), tokens
        for t in range(n + length - 1):
            logits = self.step(whole[:, t : t + 1], queues, h if h is None or h.ndim == 2 else h[:, t : t + 1])
            if t + 1 == whole.shape[1]:
                whole = torch.cat([whole, choose(logits[:, 0])[:, None]], 1)
        return whole[:, n:]

    def _convolutions(self) -> list[CausalConvolution]:
        return [self.first, *(layer.convolution for layer in self.stack.layers)]

    def _one_hot(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2:
            hint = ": for one sequence, give it tokens[None]" if tokens.ndim == 1 else ""
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}, but the model reads batches 'b n'{hint}")
        return F.one_hot(tokens, self.first.in_channels).to(self.first.weight.dtype)


def doubling(limit: int, *, blocks: int = 1) -> tuple[int, ...]:
    """The dilations 1, 2, 4, ... up to ``limit``, as often as there are blocks (section 2.1).

    Raises:
        ValueError: if doubling does not lead from 1 to the limit, or if there is no block.
    """
    if limit < 1 or limit & (limit - 1) or blocks < 1:
        raise ValueError(f"limit={limit}, blocks={blocks}: give a power of two, such as 512, and one block or more")
    return tuple(2**i for i in range(limit.bit_length())) * blocks


def encode(signal: Float[Tensor, "*b"], *, mu: int = 255) -> Int[Tensor, "*b"]:
    """A signal from -1 to 1 as tokens 0 to μ (section 2.2): companded, so that quiet parts have the finer steps.

        f(x) = sign(x) ln(1 + μ abs(x)) / ln(1 + μ)

    What lies beyond -1 and 1 is taken for the bound.
    """
    x = signal.clamp(-1, 1)
    companded = x.sign() * (mu * x.abs()).log1p() / math.log1p(mu)
    return ((companded + 1) / 2 * mu).round().long()


def decode(tokens: Int[Tensor, "*b"], *, mu: int = 255) -> Float[Tensor, "*b"]:
    """The signal that tokens stand for: the inverse of f at the value of each."""
    companded = 2 * tokens.float() / mu - 1
    return companded.sign() * ((1 + mu) ** companded.abs() - 1) / mu
