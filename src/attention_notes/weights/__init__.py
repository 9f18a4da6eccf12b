"""Other people's weights in our models, and ours in theirs.

Whose layouts a model's weights can have is said by its paper, in ``papers/<key>/weights.py``, which registers itself
with ``foreign``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from itertools import count
from typing import Any

from torch import Tensor, nn

from attention_notes.weights.layouts import Layout, State

__all__ = ["Foreign", "Tensors", "foreign", "layout_of", "layouts", "length", "load_weights", "to_layout", "to_timm"]

Tensors = Callable[[str], Any]  # gives the tensor that is called so here, as it is stored, or None


@dataclass(frozen=True)
class Foreign:
    """What has to be known of a class of models to take other people's weights.

    Args:
        layouts: how others name and shape its tensors.
        heads: the names of its heads, one linear map each.
        stem: the name of the weight that reads the image.
        stored: options of the factory as the shapes of tensors tell them, from a model and from what gives a tensor;
            ``image_size`` and ``window`` are the model's own where the tensors allow it. Raises ``ValueError`` where
            they do not, and do not tell which these are.
    """

    layouts: tuple[Layout, ...]
    heads: tuple[str, ...]
    stem: str
    stored: Callable[[Any, Tensors], dict[str, Any]] = lambda model, tensors: {}


def length(tensors: Tensors, name: str) -> int:
    """How many tensors there are of a name with a number, ``blocks.{i}.norm.bias``, counted from 0."""
    return next(i for i in count() if tensors(name.format(i=i)) is None)


@singledispatch
def foreign(model: nn.Module) -> Foreign:
    """What is known of other people's weights for the class of ``model``, or for a class that it derives from.

    Raises:
        ValueError: if nothing is.
    """
    known = ", ".join(sorted(kind.__name__ for kind in foreign.registry if kind is not object))
    raise ValueError(f"no foreign weights are known for {type(model).__name__}; for these they are: {known}")


def layouts(model: nn.Module) -> dict[str, Layout]:
    """The formats in which the weights of ``model`` can be read and written: those that cover each of its tensors.

    Raises:
        ValueError: if there are none, for its class or for its parts.
    """
    known = foreign(model).layouts
    if found := {layout.name: layout for layout in known if not layout.unnamed(model)}:
        return found
    unnamed = min((layout.unnamed(model) for layout in known), key=len)
    raise ValueError(f"nobody else has a {type(model).__name__} with {unnamed[0]}: no foreign weights are known for it")


def layout_of(model: nn.Module, state: State) -> Layout:
    """That of the known layouts in which ``state`` comes nearest to the weights of ``model``; our own is one, too.

    Raises:
        ValueError: if nobody else has such a model, and the names are not ours.
    """
    names = model.state_dict().keys()
    own = Layout("this package", tuple((top, top) for top in dict.fromkeys(name.split(".")[0] for name in names)))
    if state.keys() == names:
        return own
    try:
        others = layouts(model)
    except ValueError:
        if 2 * len(state.keys() & names) < min(len(state), len(names)):
            raise
        return own
    return min(own, *others.values(), key=lambda layout: sum(map(len, layout.misfits(state, model))))


def load_weights(model: nn.Module, state: State) -> str:
    """Put weights into a model, whoever named them; all of them, or none.

    Returns:
        Whose layout it was.

    Raises:
        ValueError: if no known layout has just these tensors in these shapes.
    """
    layout = layout_of(model, state)
    model.load_state_dict(layout.to_ours(state, model))
    return layout.name


def to_layout(model: nn.Module, name: str) -> dict[str, Tensor]:
    """The weights of a model as somebody else names and shapes them, such as ``"transformers"``.

    Raises:
        ValueError: if the model cannot be written so.
    """
    known = layouts(model)
    if name not in known:
        raise ValueError(f"no layout of {name!r} for this {type(model).__name__}; known: {'; '.join(known)}")
    return known[name].to_theirs(model)


def to_timm(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model as a state dict for timm's model of the same sizes.

    Raises:
        ValueError: if timm has no such model.
    """
    return to_layout(model, "timm")
