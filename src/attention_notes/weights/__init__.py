"""Other people's weights in our models, and ours in theirs."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from attention_notes.weights.layouts import Layout, State

# a model's class, and the module here that knows how others name its weights
_LAYOUTS = {
    "VisionTransformer": "vit",
    "DistilledVisionTransformer": "deit",
    "Swin": "swin",
    "PyramidVisionTransformer": "pvt",
}


def layouts(model: nn.Module) -> dict[str, Layout]:
    """In whose layouts the weights of ``model`` can be read and written: those that name each of its tensors.

    Raises:
        ValueError: if there are none, for its class or for its parts.
    """
    known = table(model).LAYOUTS
    if found := {layout.name: layout for layout in known if not layout.unnamed(model)}:
        return found
    unnamed = min((layout.unnamed(model) for layout in known), key=len)
    raise ValueError(f"nobody else has a {type(model).__name__} with {unnamed[0]}: no foreign weights are known for it")


def table(model: nn.Module) -> Any:
    """The module with the layouts of the class of ``model``.

    Raises:
        ValueError: if there is none.
    """
    kind = type(model).__name__
    if kind not in _LAYOUTS:
        raise ValueError(f"no foreign weights are known for {kind}; for these they are: {', '.join(_LAYOUTS)}")
    return import_module(f"{__name__}.{_LAYOUTS[kind]}")


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
