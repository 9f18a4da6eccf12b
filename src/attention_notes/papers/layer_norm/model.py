"""On Layer Normalization in the Transformer Architecture, Xiong et al. 2020, arXiv 2002.04745.

In one sentence: with the norm on the branch instead of on the sum, gradients near the output shrink as the stack grows
deeper, and a Transformer trains without a warm-up of its learning rate.

``PostNorm`` and ``PreNorm`` are in ``papers.transformer``. Here are the start that the paper analyses, and the norms
that can stand in either place: layer norm (Ba et al. 2016, arXiv 1607.06450), RMSNorm (Zhang & Sennrich 2019, arXiv
1910.07467), batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) and PowerNorm (Shen et al. 2020, arXiv 2003.07845).

Departures:
    - PowerNorm is the paper's algorithm, with epsilon under the root. The authors' code divides the gradient by the
      root of the *batch's* quadratic mean where Algorithm 2 has the running one; scales each token (or group of its
      features) by its own root mean square first (``nn.Sequential(RMSNorm(c), PowerNorm(c))`` does so); and uses the
      approximate gradient during the warm-up, where ours is the exact one of Algorithm 1.
    - Batch norm and PowerNorm count every token that they are given: padding is theirs to see.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.nn.mlp import MLP
from attention_notes.papers.transformer import Decoder, Encoder

Model = TypeVar("Model", bound=nn.Module)
Stack = TypeVar("Stack", Encoder, Decoder)


class LayerNorm(nn.Module):
    """Each token by its own mean and variance (Ba et al. 2016, equation 4).

        y = gain (x - mean(x)) / √(var(x) + eps) + bias,   mean and variance over the ``c`` features of one token

    Args:
        dim: width ``c`` of the tokens.
        eps: added to the variance.

    Raises:
        ValueError: in ``forward``, if the tokens have another width.
    """

    def __init__(self, dim: int, *, eps: int | float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """The same in training and in evaluation: a token is all that it needs."""
        _check_width(x, self.weight)
        x, kind = _wide(x), x.dtype
        centred = x - x.mean(-1, keepdim=True)
        y = self.weight * centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() + self.bias
        return y.to(kind)


class RMSNorm(nn.Module):
    """Each token by its own root mean square: layer norm without the mean and the bias (Zhang & Sennrich 2019, eq. 4).

        y = gain x / √(mean(x²) + eps),   the mean over the ``c`` features of one token

    Arguments and errors as in ``LayerNorm``.
    """

    def __init__(self, dim: int, *, eps: int | float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """The same in training and in evaluation."""
        _check_width(x, self.weight)
        x, kind = _wide(x), x.dtype
        return (self.weight * x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt()).to(kind)


class BatchNorm(nn.Module):
    """Each feature by its mean and variance over all tokens of the batch (Ioffe & Szegedy 2015, Algorithms 1 and 2).

        y = gain (x - mean(x)) / √(var(x) + eps) + bias,   mean and variance over the tokens, for each of ``c`` features

    In evaluation both are replaced by running averages, of which the variance is the unbiased one.

    Args:
        dim: width ``c`` of the tokens.
        momentum: share of a batch in the running averages.
        eps: added to the variance.

    Raises:
        ValueError: in ``forward``, if the tokens have another width, or if there is one token only to train on.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.1, eps: int | float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """In training by the batch, in evaluation by what was seen in training."""
        _check_width(x, self.weight)
        mean, var = self._statistics(x.flatten(0, -2)) if self.training else (self.running_mean, self.running_var)
        return self.weight * (x - mean) / (var + self.eps).sqrt() + self.bias

    def _statistics(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        if len(tokens) < 2:
            raise ValueError(f"batch norm needs 2 tokens at least to train on, but the batch has {len(tokens)}")
        mean, var = tokens.mean(0), tokens.var(0, correction=0)
        unbiased = var.detach() * len(tokens) / (len(tokens) - 1)
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        return mean, var


class PowerNorm(nn.Module):
    """Each feature by a running quadratic mean, with a running approximation of the gradient (Shen et al. 2020).

        ψ_B² = mean(x²)           over the tokens of the batch, for each of ``c`` features

        PN-V (Algorithm 1)        PN (Algorithm 2)
        x̂  = x / ψ_B              x̂  = x / ψ
        g'  = (g - x̂ Λ) / ψ_B     g'  = (g - x̂ ν) / ψ
                                  ψ² <- α ψ² + (1 - α) ψ_B²                  after the forward pass
                                  ν  <- ν (1 - (1 - α) Γ) + (1 - α) Λ        after the backward pass

    with y = gain x̂ + bias, g the gradient with respect to x̂, g' the one handed on, Γ = mean(x̂²) and Λ = mean(g x̂).
    The gradient of PN-V is exact. That of PN is not: it stands in for the derivative of the running ψ, through which
    all earlier batches act. In evaluation both divide by the running ψ.

    Args:
        dim: width ``c`` of the tokens.
        alpha_forward: α of ψ².
        alpha_backward: α of ν.
        warmup: number of first steps on which it is PN-V, while the running statistics fill; ``math.inf`` for PN-V.
        eps: added to the quadratic mean.

    Raises:
        ValueError: if an α is not in [0, 1); in ``forward``, if the tokens have another width.
    """

    running_square: Tensor
    nu: Tensor
    steps: Tensor

    def __init__(
        self,
        dim: int,
        *,
        alpha_forward: int | float = 0.9,
        alpha_backward: int | float = 0.9,
        warmup: int | float = 0,
        eps: int | float = 1e-5,
    ) -> None:
        super().__init__()
        if not (0 <= alpha_forward < 1 and 0 <= alpha_backward < 1):
            raise ValueError(f"alpha_forward={alpha_forward} and alpha_backward={alpha_backward} must be in [0, 1)")
        self.alpha_forward, self.alpha_backward = alpha_forward, alpha_backward
        self.warmup, self.eps = warmup, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_square", torch.ones(dim))
        self.register_buffer("nu", torch.zeros(dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Divide by what earlier batches were like, then take this one into account."""
        _check_width(x, self.weight)
        if not self.training:
            return self.weight * x / (self.running_square + self.eps).sqrt() + self.bias
        square = _wide(x.detach()).flatten(0, -2).square().mean(0).to(x.dtype)
        self.steps.add_(1)
        exact = self.steps <= self.warmup
        psi = (torch.where(exact, square, self.running_square) + self.eps).sqrt()
        self.running_square.lerp_(square, 1 - self.alpha_forward)
        return self.weight * _Power.apply(x, psi, self.nu, exact, self.alpha_backward) + self.bias


class _Power(torch.autograd.Function):
    """x / ψ with the gradients of ``PowerNorm``; the backward pass also moves ν, in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, psi: Tensor, nu: Tensor, exact: Tensor, alpha: int | float) -> Tensor:
        x_hat = x / psi
        ctx.save_for_backward(x_hat, psi, exact)
        ctx.nu, ctx.alpha = nu, alpha
        return x_hat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (x_hat, psi, exact), nu = ctx.saved_tensors, ctx.nu
        gamma, lambda_ = (product.flatten(0, -2).mean(0) for product in (x_hat.square(), g * x_hat))
        passed_on = (g - x_hat * torch.where(exact, lambda_, nu)) / psi
        nu.mul_(1 - (1 - ctx.alpha) * gamma).add_(lambda_, alpha=1 - ctx.alpha)
        return passed_on, None, None, None, None


def with_norm(model: Model, norm: Callable[[int], nn.Module]) -> Model:
    """Put ``norm(c)`` in the place of every ``nn.LayerNorm`` of ``c`` features, in the model itself.

    Args:
        model: any model of this package or another.
        norm: makes a norm for a width, as ``RMSNorm`` or ``partial(PowerNorm, warmup=100)``.

    Raises:
        ValueError: if there is no layer norm inside the model.
    """
    found = [(name, old) for name, old in model.named_modules() if name and isinstance(old, nn.LayerNorm)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no nn.LayerNorm inside to put another norm in the place of")
    for name, old in found:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, norm(old.normalized_shape[-1]).to(old.weight))
    return model


@torch.no_grad()
def start_as_analysed(stack: Stack) -> Stack:
    """The start for which Xiong et al. prove Lemma 2 and Theorem 1, set in place.

    W^V, W^1 and W^2 are Gaussian with variance 2 / (fan in + fan out), W^Q and W^K zero, so that attention is an
    average at first, and biases zero; W^O, which the analysis leaves out, is the identity. The theorem is about an
    encoder of one head and ``hidden = dim``.
    """
    for module in stack.modules():
        gaussian: tuple[nn.Linear, ...] = ()
        if isinstance(module, MultiHeadAttention):
            gaussian = (module.value,)
            nn.init.zeros_(module.query.weight)
            nn.init.zeros_(module.key.weight)
            nn.init.eye_(module.output.weight)
        elif isinstance(module, MLP):
            gaussian = (module.expand, module.contract)
        for linear in gaussian:
            nn.init.normal_(linear.weight, std=math.sqrt(2 / sum(linear.weight.shape)))
    for name, parameter in stack.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return stack


def _wide(x: Tensor) -> Tensor:
    """In single precision at least: the square of 256 is too large for float16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_width(x: Tensor, weight: Tensor) -> None:
    if x.shape[-1] != len(weight):
        raise ValueError(f"tokens have width {x.shape[-1]}, but the norm was built for dim={len(weight)}")
