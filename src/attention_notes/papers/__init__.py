"""One folder a paper. Its files, each where a paper needs it:

    model.py          what the paper changed, in its order and symbols
    facts.yml         the paper, its numbers, and the statements about it; evidence.json: the record of its trainings
    family.py         ``FAMILY``, for the registry and for the tests over all models
    weights.py        how others name its tensors, and checkpoints.yml: which weights are published
    geometry.py       where its tokens lie on an image
    figures.py        what only its chapter draws, and data.py: what only its chapter is run on

Nothing lists the papers: what goes over all of them walks these folders.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Reference(NamedTuple):
    """Somebody else's model: the library, whose ``layout`` its weights are in, and what makes it, not trained."""

    library: str
    layout: str
    build: Callable[[], nn.Module]


def images(size: int | None) -> tuple[Tensor, ...]:
    """One image of noise, ``size`` pixels a side."""
    return (torch.randn(1, 3, size or 1, size or 1),)


@dataclass(frozen=True)
class Family:
    """The models of one paper.

    Args:
        factory: makes a model from the name of a variant.
        variants: the names, and the sizes behind them.
        reference: finds a variant's reference, or says in words what takes its place.
        size: pixels of a side of the image, where a variant does not name its own; ``None`` for models of text.
        inputs: a batch of one for a model, from that size.
    """

    factory: Callable[..., nn.Module]
    variants: Mapping[str, Any]
    reference: Callable[[str], Reference | str]
    size: int | None = 224
    inputs: Callable[[int | None], tuple[Tensor, ...]] = images


def keys(file: str = "model.py") -> list[str]:
    """The papers whose folder has a file, sorted: by default those that have a module."""
    return sorted(folder.name for folder in resources.files(__name__).iterdir() if (folder / file).is_file())


@cache
def families() -> Mapping[str, Family]:
    """The family of every paper that has models with names, by the paper's key."""
    return {key: import_module(f"{__name__}.{key}.family").FAMILY for key in keys("family.py")}


def in_timm(name: str, **options: Any) -> Reference:
    """A model of timm, by its name there; the options are timm's, too."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=1000, **options)

    return Reference("timm", "timm", build)


def in_tests(what: str) -> Callable[[str], str]:
    """What takes the place of a reference that has layouts of weights."""
    return lambda variant: f"{what}, in the tests"
