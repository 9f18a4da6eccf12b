"""How time and memory of every form of attention grow with the number of tokens."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attention_notes.nn.attention import attention_weights
from attention_notes.nn.windows import Windows
from attention_notes.papers.cbam import CBAM
from attention_notes.papers.dnl import DNL
from attention_notes.papers.non_local import Concatenation, DotProduct, NonLocal
from attention_notes.papers.pvt import PooledReduction, SpatialReductionAttention, StridedReduction
from attention_notes.papers.swin import WindowAttention
from attention_notes.papers.vit import SelfAttention
from benchmarks.timing import Clock, interval, peak_memory

WIDTH, HEADS = 64, 2
SIDES = (14, 28, 56, 84, 112, 168, 224)  # up to 50,176 tokens; windows of 7 and ratios of 7 tile them all


class Form(NamedTuple):
    """A form of attention: its chapter, what makes it for a map of one side, and how the chapter says it grows.

    ``time`` and ``memory`` are the exponents of the number of tokens; ``held`` gives the bytes of what it must hold at
    once, so that what does not fit is not tried.
    """

    key: str
    build: Callable[[int], nn.Module]
    time: int
    memory: int
    held: Callable[[int], int] = lambda n: 0


class OnMap(nn.Module):
    """An attention of sequences, given a map ``b gy gx c``."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Row by row."""
        return self.attention(x.flatten(1, 2))


class Literal(SelfAttention):
    """Self-attention that holds the weights of every pair."""

    def forward(self, z: Tensor) -> Tensor:
        """As ``SelfAttention``."""
        q, k, v = self.qkv(z).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(2, 3)
        return self.output((attention_weights(q, k) @ v).transpose(1, 2).flatten(2))


class OnChannels(nn.Module):
    """A block of convolutional networks, given a map ``b gy gx c``."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Channels first."""
        return self.block(x.movedim(-1, 1))


def _block(make: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    return lambda side: OnChannels(make(WIDTH))


def _reduced(reduction: nn.Module) -> nn.Module:
    return SpatialReductionAttention(WIDTH, heads=HEADS, reduction=reduction)


FORMS = {
    "every pair, weights held": Form(
        "self_attention", lambda side: OnMap(Literal(WIDTH, heads=HEADS)), 2, 2, lambda n: 3 * HEADS * 4 * n * n
    ),
    "every pair, fused kernel": Form("vit", lambda side: OnMap(SelfAttention(WIDTH, heads=HEADS)), 2, 1),
    "windows of 7 x 7": Form(
        "swin",
        lambda side: WindowAttention(WIDTH, heads=HEADS, windows=Windows((side, side), window=(7, 7), shifted=False)),
        1,
        1,
    ),
    "keys reduced by 7 x 7": Form("pvt", lambda side: _reduced(StridedReduction(WIDTH, ratio=7)), 2, 1),
    "keys pooled to 7 x 7": Form("pvt", lambda side: _reduced(PooledReduction(WIDTH)), 1, 1),
    "non-local, embedded Gaussian": Form("non_local", _block(NonLocal), 2, 1),
    "non-local, dot product": Form("non_local", _block(partial(NonLocal, pairwise=DotProduct)), 1, 1),
    "non-local, concatenation": Form("non_local", _block(partial(NonLocal, pairwise=Concatenation)), 1, 1),
    "disentangled non-local": Form("dnl", _block(DNL), 2, 1),
    "CBAM": Form("cbam", _block(CBAM), 1, 1),
}


def exponent(tokens: Sequence[int], values: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms."""
    x, y = (torch.tensor([math.log(v) for v in row], dtype=torch.float64) for row in (tokens, values))
    x, y = x - x.mean(), y - y.mean()
    return ((x * y).sum() / x.square().sum()).item()


def grow(
    name: str,
    device: torch.device,
    *,
    memory: int = 6 * 2**30,
    seconds: float = 4,
    sides: Sequence[int] = SIDES,
    samples: int = 5,
) -> dict[str, Any]:
    """One row of the results: seconds and bytes by tokens, and the exponents of the larger half of what was measured.

    A size is left out when it needs more than ``memory`` bytes, and the sizes behind it when one took ``seconds``; what
    takes a second is timed once.
    """
    form, clock = FORMS[name], Clock(device)
    tokens, took, held = list[int](), list[float](), list[int]()
    for side in sides:
        if form.held(side * side) > memory or (took and took[-1] > seconds):
            break
        model, x = form.build(side).eval().to(device), torch.randn(1, side, side, WIDTH, device=device)

        @torch.inference_mode()
        def work(model: nn.Module = model, x: Tensor = x) -> None:
            model(x)

        repeats = clock.repeats(work)
        first = clock.once(work, repeats)
        more = [clock.once(work, repeats) for _ in range(samples - 1)] if first < 1 else []
        took.append(interval([first, *more]).median)
        held.append(peak_memory(work, device))
        tokens.append(side * side)
    large = slice(len(tokens) // 2, None)
    return {
        "form": name,
        "key": form.key,
        "tokens": tokens,
        "seconds": took,
        "bytes": held,
        "time": exponent(tokens[large], took[large]),
        "memory": exponent(tokens[large], held[large]),
        "claimed": {"time": form.time, "memory": form.memory},
    }
