"""What is minimised: labels mixed and smoothed, and a teacher's word where there is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_notes.papers.deit import hard_distillation, mix, soft_distillation
from attention_notes.registry import model as registered
from attention_notes.training.recipe import Objective, Recipe


def mixed(recipe: Recipe, images: Tensor, labels: Tensor, *, classes: int) -> tuple[Tensor, Tensor]:
    """Images and labels of a batch, blended as the recipe says; the labels are classes ``b``, or shares ``b k``."""
    augment = recipe.augment
    if not augment.mixup and not augment.cutmix:
        return images, labels
    one_hot = F.one_hot(labels, classes).to(images.dtype)
    switch = augment.switch if augment.mixup and augment.cutmix else float(augment.cutmix > 0)
    return mix(images, one_hot, mixup_alpha=augment.mixup or 1.0, cutmix_alpha=augment.cutmix or 1.0, switch=switch)


def cross_entropy(logits: Tensor, targets: Tensor, recipe: Objective) -> Tensor:
    """Of the labels; the share ``smoothing`` goes to all classes alike."""
    return F.cross_entropy(logits, targets, label_smoothing=recipe.smoothing)


def binary(logits: Tensor, targets: Tensor, recipe: Objective) -> Tensor:
    """Yes or no for each class: yes for each that a mixed image has a part of (Wightman et al. 2021, section 3)."""
    if targets.ndim == 1:
        targets = F.one_hot(targets, logits.shape[-1]).to(logits.dtype)
    yes = (targets > 0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(
        logits, yes * (1 - recipe.smoothing) + recipe.smoothing / logits.shape[-1]
    )


LOSSES: dict[str, Callable[[Tensor, Tensor, Objective], Tensor]] = {"cross_entropy": cross_entropy, "binary": binary}


class Criterion:
    """The loss of a batch.

    Args:
        recipe: its ``objective``, and its ``distil`` where there is a teacher.
        teacher: gives logits ``b k`` of the same classes; runs without gradients.
    """

    def __init__(self, recipe: Recipe, teacher: nn.Module | None) -> None:
        self.recipe, self.teacher = recipe, teacher
        self.loss = LOSSES[recipe.objective.loss]

    def __call__(self, model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
        """The mean over the images ``b ch y x``; ``targets`` are classes ``b``, or shares ``b k``."""
        outputs = model(images)
        distil = self.recipe.distil
        if distil is None or self.teacher is None:
            return self.loss(outputs, targets, self.recipe.objective)
        with torch.no_grad():
            told = self.teacher(images).to(outputs.dtype)
        smoothed = _smoothed(targets, told.shape[-1], self.recipe.objective.smoothing, outputs.dtype)
        if distil.kind == "hard":
            return hard_distillation(outputs, teacher=told, labels=smoothed)
        return soft_distillation(outputs, teacher=told, labels=smoothed, tau=distil.tau, weight=distil.weight)


def _smoothed(targets: Tensor, classes: int, epsilon: float, dtype: torch.dtype) -> Tensor:
    shares = F.one_hot(targets, classes).to(dtype) if targets.ndim == 1 else targets
    return (1 - epsilon) * shares + epsilon / classes


def teacher_of(recipe: Recipe, *, classes: int, trained: bool = True) -> nn.Module | None:
    """The recipe's teacher with its weights, or as it is at birth, in evaluation mode; None where it has none.

    Raises:
        ValueError: if there is no such model, or if it tells other classes apart.
    """
    if recipe.distil is None:
        return None
    one = registered(recipe.distil.teacher)
    source: Any = recipe.distil.weights or True
    if isinstance(source, str) and Path(source).exists():
        source = Path(source)
    options = dict(recipe.distil.options)
    if isinstance(source, Path) or not trained:
        options.setdefault("num_classes", classes)
    made: Any = one.build(**{"pretrained": source} if trained else {}, **options)
    if made.num_classes != classes:
        raise ValueError(
            f"the teacher {one.name} tells {made.num_classes} classes apart, and the images have {classes}"
        )
    return made.requires_grad_(False)
