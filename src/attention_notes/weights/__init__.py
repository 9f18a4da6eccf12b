"""Other people's weights in our models, and ours in theirs.

Whose layouts a model's weights can have is said by its paper, in ``papers/<key>/weights.py``, which registers itself
with ``foreign``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import Tensor, nn

from attention_notes.weights.layouts import Layout, State

__all__ = ["Foreign", "foreign", "layouts", "load_weights", "to_layout", "to_timm"]


@dataclass(frozen=True)
class Foreign:
    """What has to be known of a class of models to take other people's weights.

    Args:
        layouts: how others name and shape its tensors.
        heads: the names of its heads, one linear map each.
        stem: the name of the weight that reads the image.
        stored_size: the size of the images that weights are for, from a model and from what gives a tensor by our
            name; None where the tensors do not tell.
        fixed_size: whether weights that do not tell are taken to be for images of the requested size.
    """

    layouts: tuple[Layout, ...]
    heads: tuple[str, ...]
    stem: str
    stored_size: Callable[[Any, Callable[[str], Any]], tuple[int, int] | None] = lambda model, theirs: None
    fixed_size: bool = False


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


def load_weights(model: nn.Module, state: State) -> str:
    """Put weights into a model, whoever named them; all of them, or none.

    Returns:
        Whose layout it was.

    Raises:
        ValueError: if no known layout has just these tensors in these shapes.
    """
    tops = dict.fromkeys(name.split(".")[0] for name in model.state_dict())
    best = Layout("this package", tuple((top, top) for top in tops))
    if state.keys() != model.state_dict().keys():
        best = min(best, *layouts(model).values(), key=lambda layout: sum(map(len, layout.misfits(state, model))))
    model.load_state_dict(best.to_ours(state, model))
    return best.name


def to_layout(model: nn.Module, name: str) -> dict[str, Tensor]:
    """The weights of a model as somebody else names and shapes them, such as ``"transformers"``.

    Raises:
        ValueError: if the model cannot be written so.
    """
    known = layouts(model)
    if name not in known:
        raise ValueError(f"no layout of {name!r} for this {type(model).__name__}; known: {', '.join(known)}")
    return known[name].to_theirs(model)


def to_timm(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model as a state dict for timm's model of the same sizes.

    Raises:
        ValueError: if timm has no such model.
    """
    return to_layout(model, "timm")
