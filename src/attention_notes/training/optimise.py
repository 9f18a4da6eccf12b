"""How weights move: the rate by the step, the optimizer, and an average of the weights that follows them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from attention_notes.registry.parity import installed
from attention_notes.training.recipe import Optimise


def peak(recipe: Optimise) -> float:
    """The factor on all rates that the size of a step's batch brings: 1, or batch / ``lr_per``."""
    return 1.0 if recipe.lr_per is None else recipe.batch / recipe.lr_per


def rate(recipe: Optimise, step: int, *, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0: linear warm-up, then half a cosine (Loshchilov and Hutter 2017)."""
    total = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch
    low, high, start = (value * peak(recipe) for value in (recipe.min_lr, recipe.lr, recipe.warmup_lr))
    if step < warmup:
        return start + (high - start) * step / warmup
    first = warmup if recipe.cosine_after_warmup else 0.0
    share = (step - first) / max(total - first, 1)
    return low + (high - low) / 2 * (1 + math.cos(math.pi * min(share, 1.0)))


def _lamb(groups: list[dict[str, Any]], recipe: Optimise) -> Optimizer:
    if not installed("timm"):
        raise ValueError('optimise.optimizer: lamb needs timm: pip install "attention-notes[train]"')
    from timm.optim.lamb import Lamb

    made: Optimizer = Lamb(groups, lr=recipe.lr, betas=_two(recipe.betas), eps=recipe.eps)
    return made


def _two(values: tuple[float, ...]) -> tuple[float, float]:
    first, second = values
    return first, second


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Optimise], Optimizer]] = {
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, lr=recipe.lr, betas=_two(recipe.betas), eps=recipe.eps),
    "lamb": _lamb,
    "sgd": lambda groups, recipe: torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True),
}


def optimizer_of(model: Any, recipe: Optimise) -> Optimizer:
    """The recipe's optimizer over the groups of a ``VisionModel``; each keeps its share of the rate as ``scale``."""
    groups = model.parameter_groups(1.0, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay)
    for group in groups:
        group["scale"] = group.pop("lr")
    return OPTIMIZERS[recipe.optimizer](groups, recipe)


def set_rate(optimizer: Optimizer, value: float) -> None:
    """Give each group its share of a rate."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["scale"]


class Average:
    """A moving average of a model's weights: after each step ``decay`` of it stays; statistics are taken as they are.

    Args:
        model: whose weights are followed, sharded or not.
        decay: from 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Follow one step."""
        now = [p.detach() for _, p in self.model.named_parameters()]
        torch._foreach_lerp_([*self.weights.values()], now, 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average as its weights while the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self.model.named_parameters():
            kept: Tensor = p.detach().clone()
            p.copy_(self.weights[name])
            self.weights[name] = kept
