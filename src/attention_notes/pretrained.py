"""``pretrained=`` for the factories of models: official weights, and then whatever was asked for."""

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from os import PathLike
from typing import Any, TypeVar

from torch import Tensor

Source = bool | str | PathLike[str] | Mapping[str, Tensor]
Made = TypeVar("Made")


def pretrainable(build: Callable[..., Made]) -> Callable[..., Made]:
    """Let a factory take official weights.

    The factory gets another argument, ``pretrained``: True for the first weights that are listed for the variant, a
    repository of the list (``python -m attention_notes list``), the path of a file, or a state dict, in any layout
    that ``attention_notes.weights`` knows. What is not given is then as the weights want it: ``num_classes``,
    ``image_size``. What is given and differs is made of them: another head is drawn anew, positions are interpolated,
    the patches' map is summed or repeated over other channels.

    Raises:
        ValueError: if there are no such weights, or if they do not fit the model that is asked for.
        attention_notes.weights.hub.HubError: if the weights cannot be had: no network, a file that is damaged.
    """

    @wraps(build)
    def factory(variant: str, *, pretrained: Source = False, **options: Any) -> Made:
        if pretrained is False:
            return build(variant, **options)
        # Looked up when it is needed: models do without a hub, and so do the chapters that import them.
        loading = import_module("attention_notes.weights.pretrained")
        return loading.load(build, variant, pretrained, **options)

    return factory
