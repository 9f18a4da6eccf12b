"""``pretrained=`` for the factories: a model of the weights' own sizes, then changed to the requested ones."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attention_notes.nn.vision import check_classes
from attention_notes.weights import Foreign, foreign, layout_of, load_weights
from attention_notes.weights.checkpoints import find
from attention_notes.weights.files import read_weights, unwrapped
from attention_notes.weights.hub import fetch
from attention_notes.weights.layouts import Layout, State

Source = bool | str | PathLike[str] | Mapping[str, Any] | None
Made = TypeVar("Made")

_RESIZED = ("image_size", "window")  # what ``resize`` changes afterwards
_CHANGED = ("num_classes", "channels", *_RESIZED)  # what weights can be for, and the model have otherwise
_IN_TRAINING = ("dropout", "attention_dropout", "projection_dropout", "drop_path")  # what weights do not depend on
_DOCUMENTED = """\
    pretrained: True for official weights, a repository of their list, the ``Path`` of a file, or a state dict, as
        ``attention_notes.weights.pretrained`` says; without weights, False or None.
"""


def pretrainable(build: Callable[..., Made]) -> Callable[..., Made]:
    """Let a factory take weights.

    The factory gets another argument, ``pretrained``: True for the first weights that are listed for the variant, or a
    repository of the list (``python -m attention_notes list``); and for weights of one's own, the ``Path`` of a file or
    a state dict, in any layout that ``attention_notes.weights`` knows, with whatever a training has put around it.
    None is False.

    **Published weights** say how they were trained. What is given and differs is derived from them: another head is
    drawn anew, positions and tables are interpolated, the patches' map is summed or repeated over other channels.

    **Weights of one's own** are those of the model that the other arguments describe, bit for bit. What is omitted is
    taken from the shapes of the tensors where they tell it: classes, channels, the window of Swin, and the size of the
    images, which are then taken for square. What is given and contradicts them is derived, as above, if it is one of
    ``num_classes``, ``channels``, ``image_size``, ``window``, and refused otherwise. No parameter of Swin V2 depends on
    its window: what is given is taken for that of the training. To move such weights into other windows, build the
    model for those of the training, and call ``resize``.

    Raises:
        ValueError: if there are no such weights, or if they do not fit the requested model.
        attention_notes.weights.hub.HubError: if the weights cannot be had: no network, a file that is damaged.
    """
    signature = inspect.signature(build)
    first, *others = signature.parameters.values()

    @wraps(build)
    def factory(*variant: str, pretrained: Source = False, **options: Any) -> Made:
        check_classes(options.get("num_classes"))  # before anything is fetched
        if pretrained is None or pretrained is False:
            return build(*variant, **options)
        name, *_ = variant or (options.pop(first.name, None),)
        return load(build, name, pretrained, **options)

    taken = inspect.Parameter("pretrained", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Source)
    last = [others.pop()] if others and others[-1].kind is inspect.Parameter.VAR_KEYWORD else []
    factory.__signature__ = signature.replace(parameters=[first, *others, taken, *last])  # type: ignore[attr-defined]
    factory.__doc__ = _documented(inspect.getdoc(build) or "")
    return factory


def _documented(text: str) -> str:
    """A docstring whose arguments end with ``pretrained``."""
    before, raises, after = text.partition("\nRaises:")
    start = "" if "\nArgs:\n" in before else "\nArgs:\n"
    return f"{before.rstrip()}\n{start}{_DOCUMENTED}{raises}{after}"


def load(build: Callable[..., Any], variant: str, source: Source, **options: Any) -> Any:
    """A model with weights, as ``pretrainable`` says; it keeps its ``checkpoint``, None for weights of one's own.

    Args:
        build: a factory of random models, named as its paper's key.
        variant: name of the variant.
        source: True, a repository, the path of a file, or a state dict.
        options: of the factory.

    Raises:
        ValueError: if there are no such weights, or if the requested model cannot be derived from them.
        attention_notes.weights.hub.HubError: if they cannot be had.
    """
    if isinstance(source, bool | str):
        return _published(build, variant, source, options)
    return _of_ones_own(build, variant, source, options)


def _published(build: Callable[..., Any], variant: str, source: bool | str, options: Mapping[str, Any]) -> Any:
    """Built as it was trained, moved to what it was tuned to, and then changed to what is requested."""
    name = f"{build.__name__} {variant!r}"
    checkpoint = find(build.__name__, variant, source)
    if fixed := [option for option in options if option not in (*_CHANGED, *_IN_TRAINING)]:
        raise ValueError(
            f"weights of {name} are for the model as it is: {', '.join(fixed)} cannot be changed with them; "
            f"{', '.join((*_CHANGED, *_IN_TRAINING))} can, where the model has them"
        )
    _on_meta(build, variant, options)  # what cannot be is found out before anything is fetched
    state = read_weights(fetch(checkpoint))
    trained = {option: value for option, value in options.items() if option in _IN_TRAINING}
    trained |= checkpoint.options

    def tuned(**others: Any) -> Any:
        model = build(variant, **trained, **others)
        return model.resize(**checkpoint.resize) if checkpoint.resize else model

    model = tuned()
    try:
        load_weights(model, state)
    except ValueError as error:
        raise ValueError(f"{checkpoint.repo} does not fit {name}: {error}") from error
    if (channels := options.get("channels", 3)) != 3:
        model = _with_channels(model, tuned(channels=channels), stored=3)
    _resize(model, options)
    _change_heads(model, _on_meta(build, variant, {**trained, **_some(options, "num_classes")}))
    model.checkpoint = checkpoint
    return model


def _of_ones_own(build: Callable[..., Any], variant: str, source: Any, options: Mapping[str, Any]) -> Any:
    """Built as ``options`` say, but for what the tensors have otherwise, and then changed to what ``options`` say."""
    asked = _on_meta(build, variant, options)
    state, origin = _tensors(source)
    try:
        told = _told(asked, state, options)
        candidates = [{**options, **told}]
        if _some(options, *_RESIZED) and not _some(told, *_RESIZED):
            # they are for the given sizes or, where what follows from sizes is stored and contradicts, the variant's
            candidates.append({name: value for name, value in candidates[0].items() if name not in _RESIZED})
        model, trained = _first_that_fits(build, variant, state, candidates)
    except ValueError as error:
        raise ValueError(f"{origin} does not fit {build.__name__} {variant!r}: {error}") from error
    if (channels := trained.get("channels", 3)) != options.get("channels", channels):
        other = build(variant, **{**trained, "channels": options["channels"]})
        model = _with_channels(model, other, stored=channels)
    if _some(options, *_RESIZED) != _some(trained, *_RESIZED):
        _resize(model, options)
    _change_heads(model, _on_meta(build, variant, {**trained, **_some(options, "num_classes")}))
    model.checkpoint = None
    return model


def _told(asked: nn.Module, state: State, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the tensors tell of the model that they were trained in.

    Raises:
        ValueError: if it is something that the model has otherwise, and that cannot be changed afterwards.
    """
    known, ours = _known(asked), asked.state_dict()
    layout, wanted = _named(asked, known.heads, state)
    strange = sorted(state.keys() - wanted)
    if 4 * len(wanted & state.keys()) < min(len(wanted), len(state)):
        raise ValueError(
            f"it holds the weights of another model: {len(strange)} of its {len(state)} tensors, such as "
            f"{strange[0]}, are none of a {type(asked).__name__} under any name that is known here"
        )

    def stored(name: str) -> Tensor | None:
        """What is called so here, as it is stored."""
        if name in state:
            return state[name]
        try:
            return state.get(layout.match(name).theirs[0])
        except ValueError:  # nobody calls anything so
            return None

    told, own = known.stored(asked, stored), known.stored(asked, ours.get)
    channels, derived = options.get("channels", 3), {*_RESIZED}
    if known.stem and (stem := stored(known.stem)) is not None:
        count, rest = divmod(stem.numel() * channels, ours[known.stem].numel())
        if not rest and count <= 4:  # more may as well be a larger patch
            told["channels"], own["channels"] = count, channels
            derived |= {"channels"} & options.keys() if count in (1, 3) else set()
    apart = [name for name, value in told.items() if name not in derived and own.get(name) != value]
    if apart:
        theirs, here = (", ".join(f"{name}={of.get(name)}" for name in apart) for of in (told, own))
        raise ValueError(f"it holds the weights of a model with {theirs}; this one has {here}: build it with theirs")
    if known.heads:
        bias, weight = (stored(f"{known.heads[0]}.{leaf}") for leaf in ("bias", "weight"))
        if bias is not None or weight is None:
            told["num_classes"] = None if bias is None else len(bias)
    return _some(told, *_CHANGED)


def _named(asked: nn.Module, heads: Iterable[str], state: State) -> tuple[Layout, set[str]]:
    """The layout in which tensors come nearest to a model, with or without its heads, and its names for that."""
    bare = deepcopy(asked)
    for head in heads:
        setattr(bare, head, nn.Identity())
    found = [(layout_of(model, state), model) for model in (asked, bare)]
    layout, model = min(found, key=lambda one: sum(map(len, one[0].misfits(state, one[1]))))
    return layout, layout.wanted(model)


def _known(model: nn.Module) -> Foreign:
    """What is known of a model, also of one whose weights nobody else has."""
    try:
        return foreign(model)
    except ValueError:
        headed = isinstance(getattr(model, "head", None), nn.Linear | nn.Identity)
        return Foreign((), heads=("head",) if headed else (), stem="")


def _tensors(source: Any) -> tuple[State, str]:
    """The tensors of a file or of a mapping, and what to call it."""
    if isinstance(source, Mapping):
        return unwrapped(source, "what is given as pretrained"), "the state dict"
    if isinstance(source, PathLike):
        return read_weights(source), Path(source).name
    way = "give its state_dict()" if isinstance(source, nn.Module) else "without weights, False or None"
    raise ValueError(
        f"pretrained is a {type(source).__name__}, and not True, the name of a repository, the Path of a file, or a "
        f"state dict: {way}"
    )


def _first_that_fits(
    build: Callable[..., Any], variant: str, state: State, candidates: Sequence[dict[str, Any]]
) -> tuple[Any, dict[str, Any]]:
    """A model with the weights, and its options; where none of the candidates takes them, the first one's error."""
    errors = []
    for options in candidates:
        model = build(variant, **options)
        try:
            load_weights(model, state)
        except ValueError as error:
            errors.append(error)
        else:
            return model, options
    raise errors[0]


def _on_meta(build: Callable[..., Any], variant: str, options: Mapping[str, Any]) -> Any:
    """A model without numbers."""
    with torch.device("meta"):
        return build(variant, **options)


def _some(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _with_channels(model: Any, other: Any, *, stored: int) -> Any:
    """The weights of ``model``, for images of ``stored`` channels, in ``other``, for others: as timm does it.

    One channel gets the sum of all, so that grey gives what it gave in colour; more channels get them in turns, scaled
    so that the sum over channels stays of one size.
    """
    name = foreign(model).stem
    state, wanted = model.state_dict(), other.state_dict()[name]
    of_channels = state[name].flatten(1).unflatten(1, (stored, -1))
    channels = wanted.numel() // of_channels[:, 0].numel()
    turns = of_channels[:, torch.arange(channels) % stored] * (stored / channels)
    stem = of_channels.sum(1) if channels == 1 else turns
    other.load_state_dict({**state, name: stem.reshape(wanted.shape)})
    return other


def _resize(model: Any, options: Mapping[str, Any]) -> None:
    """Tell the model to expect another size, if one is given and the model has to be told."""
    if (size := _some(options, *_RESIZED)) and hasattr(model, "resize"):
        model.resize(**{"image_size": model.patches.image_size, **size} if "window" in size else size)


def _change_heads(model: nn.Module, like: nn.Module) -> None:
    """Heads as those of ``like``; one for as many classes stays, another is drawn as those of the papers are."""
    for name in _known(like).heads:
        old, new = model.get_submodule(name), like.get_submodule(name)
        if isinstance(new, nn.Linear):
            if isinstance(old, nn.Linear) and old.out_features == new.out_features:
                continue
            new = nn.Linear(new.in_features, new.out_features)
            nn.init.trunc_normal_(new.weight, std=0.02)
            nn.init.zeros_(new.bias)
        setattr(model, name, new)
