"""``pretrained=`` for the factories: a model of the weights' own sizes, then changed to the requested ones."""

from collections.abc import Callable, Mapping
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attention_notes.weights import foreign, layouts, load_weights
from attention_notes.weights.checkpoints import Checkpoint, find
from attention_notes.weights.files import read_weights, unwrapped
from attention_notes.weights.hub import fetch
from attention_notes.weights.layouts import State

Source = bool | str | PathLike[str] | Mapping[str, Tensor]
Made = TypeVar("Made")

_RESIZED = ("image_size", "window")  # what ``resize`` changes afterwards
_IN_TRAINING = ("dropout", "drop_path")  # what weights do not depend on


def pretrainable(build: Callable[..., Made]) -> Callable[..., Made]:
    """Let a factory take official weights.

    The factory gets another argument, ``pretrained``: True for the first weights that are listed for the variant, a
    repository of the list (``python -m attention_notes list``), the path of a file, or a state dict, in any layout
    that ``attention_notes.weights`` knows. Options that are omitted default to the checkpoint's: ``num_classes``,
    ``image_size``. What is given and differs is derived from the weights: another head is drawn anew, positions are
    interpolated, the patches' map is summed or repeated over other channels.

    Raises:
        ValueError: if there are no such weights, or if they do not fit the requested model.
        attention_notes.weights.hub.HubError: if the weights cannot be had: no network, a file that is damaged.
    """

    @wraps(build)
    def factory(variant: str, *, pretrained: Source = False, **options: Any) -> Made:
        return build(variant, **options) if pretrained is False else load(build, variant, pretrained, **options)

    return factory


def load(build: Callable[..., Any], variant: str, source: Source, **options: Any) -> Any:
    """A model with weights, as ``pretrainable`` describes it; it keeps its ``checkpoint``.

    Args:
        build: a factory of random models, named as its paper's key.
        variant: name of the variant.
        source: True, a repository, the path of a file, or a state dict.
        options: of the factory.

    Raises:
        ValueError: if there are no such weights, or if the requested model cannot be derived from them.
        attention_notes.weights.hub.HubError: if they cannot be had.
    """
    key, told = build.__name__, dict(options)
    asked = {name: options.pop(name) for name in ("num_classes", "channels", *_RESIZED) if name in options}
    published = isinstance(source, bool | str)
    if published and (fixed := [name for name in options if name not in _IN_TRAINING]):
        raise ValueError(
            f"weights of {key} {variant!r} are for the model as it is: {', '.join(fixed)} cannot be changed with them; "
            f"num_classes, channels, {', '.join((*_RESIZED, *_IN_TRAINING))} can, where the model has them"
        )
    checkpoint, state, origin = _weights(key, variant, source)
    if checkpoint is None and (model := _as_told(build, variant, state, told)) is not None:
        return model
    try:
        first = _first(build, variant, checkpoint, state, {**options, **asked})
        model = build(variant, **first, **options)
        if checkpoint and checkpoint.resize:
            model.resize(**checkpoint.resize)
        load_weights(model, state)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{origin} does not fit {key} {variant!r}: {error}") from error
    if asked.get("channels", 3) != 3:
        model = _with_channels(model, build(variant, **first, **options, channels=asked["channels"]), checkpoint)
    if size := {name: asked[name] for name in _RESIZED if name in asked}:
        _resize(model, size)
    if "num_classes" in asked:
        with torch.device("meta"):
            like = build(variant, **{**first, **options, "num_classes": asked["num_classes"]})
        _change_heads(model, like)
    model.checkpoint = checkpoint
    return model


def _as_told(build: Callable[..., Any], variant: str, state: State, told: Mapping[str, Any]) -> Any:
    """The model as the caller describes it, if the weights are just its own: nothing is then left to guess."""
    model = build(variant, **told)
    try:
        load_weights(model, state)
    except ValueError:
        return None
    model.checkpoint = None
    return model


def _weights(key: str, variant: str, source: Source) -> tuple[Checkpoint | None, State, str]:
    """The published weights, if such they are, the tensors, and what to call them."""
    if isinstance(source, bool | str):
        checkpoint = find(key, variant, source)
        return checkpoint, read_weights(fetch(checkpoint)), checkpoint.repo
    if isinstance(source, Mapping):
        return None, unwrapped(source), "the state dict"
    if isinstance(source, PathLike):
        return None, read_weights(source), Path(source).name
    hint = "its state_dict()" if isinstance(source, nn.Module) else "False for a model that is not trained"
    raise ValueError(
        f"pretrained={type(source).__name__} is none of True, the name of a repository, the path of a file (a Path), "
        f"and a state dict: give {hint}"
    )


def _first(
    build: Callable[..., Any], variant: str, checkpoint: Checkpoint | None, state: State, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options of the model that the weights were trained in: as listed, or as the tensors tell."""
    if checkpoint:
        return {"num_classes": checkpoint.classes, **checkpoint.build}
    with torch.device("meta"):
        model = build(variant, **{**options, "num_classes": 1, "channels": 3})
    known = foreign(model)
    layout = min(layouts(model).values(), key=lambda one: sum(map(len, one.misfits(state, model))))

    if (missing := layout.misfits(state, model)[0]) and len(missing) > len(state) / 2:
        raise ValueError(f"no {missing[0]} and {len(missing) - 1} more of what {layout.name} has")

    def theirs(ours: str) -> Tensor | None:
        """What is called so here, whoever named it."""
        return state.get(ours, state.get(layout.match(ours).theirs[0]))

    head = theirs(f"{known.heads[0]}.bias")
    size: Any = known.stored_size(model, theirs)
    if size is None and known.fixed_size:
        size = options.get("image_size")
    return {"num_classes": None if head is None else len(head), **({"image_size": size} if size else {})}


def _with_channels(model: Any, other: Any, checkpoint: Checkpoint | None) -> Any:
    """The weights of ``model`` in ``other``, whose images have other channels, as timm does it.

    One channel gets the sum of the map's three, so that grey gives what it gave in colour; more channels get them in
    turns, scaled so that the sum over channels stays of one size.
    """
    if checkpoint and checkpoint.resize:
        other.resize(**checkpoint.resize)
    name = foreign(model).stem
    state, wanted = model.state_dict(), other.state_dict()[name]
    of_channels = state[name].flatten(1).unflatten(1, (3, -1))
    channels = wanted.numel() // of_channels[:, 0].numel()
    turns = of_channels[:, torch.arange(channels) % 3] * (3 / channels)
    stem = of_channels.sum(1) if channels == 1 else turns
    other.load_state_dict({**state, name: stem.reshape(wanted.shape)})
    return other


def _resize(model: Any, size: Mapping[str, Any]) -> None:
    """Tell the model to expect another size, if it has to be told."""
    if hasattr(model, "resize"):
        model.resize(**(size if "image_size" in size else {"image_size": model.patches.image_size, **size}))


def _change_heads(model: nn.Module, like: nn.Module) -> None:
    """Heads as those of ``like``; one for as many classes stays, another is drawn as those of the papers are."""
    for name in foreign(model).heads:
        old, new = model.get_submodule(name), like.get_submodule(name)
        if isinstance(new, nn.Linear):
            if isinstance(old, nn.Linear) and old.out_features == new.out_features:
                continue
            new = nn.Linear(new.in_features, new.out_features)
            nn.init.trunc_normal_(new.weight, std=0.02)
            nn.init.zeros_(new.bias)
        setattr(model, name, new)
