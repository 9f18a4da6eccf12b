"""Where the tokens of other libraries' models lie on an image: ViT, DeiT and Swin of timm, transformers, torchvision.

Their classes are known by name, and registered when the first model that has them is seen: no library is imported. A
name covers the classes that derive from it. Checked with timm 1.0.31, transformers 5.23 and torchvision 0.28.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_notes.inspect.token_geometry import Grid, Pair, Places, Window, extra_tokens, places_of, window
from attention_notes.nn.sizes import pair
from attention_notes.nn.windows import cut_windows


def _row(module: nn.Module, x: Tensor, grid: Grid) -> Places | None:
    """All tokens in one row; what those in front are, the model says."""
    places = Places.one(grid, x.shape[1]) if x.ndim == 3 else None
    return places and replace(places, names=None)


def _windows(module: Any, x: Tensor, grid: Grid, *, shift_first: bool = False) -> Places | None:
    """Windows as the block cut them in this pass: padding first, or, as in timm, the cyclic shift."""
    if (x.shape[1] if x.ndim == 3 else prod(x.shape[1:3])) != prod(grid.size):
        return None
    return _cut(grid, pair(module.window_size), pair(module.shift_size, least=0), shift_first)


def _fixed_windows(module: Any, x: Tensor, grid: Grid) -> Places | None:
    """As in torchvision: windows keep their size on smaller maps, and are not shifted where one covers the map."""
    if x.shape[1:3] != grid.size:
        return None
    size, shift = pair(module.window_size), pair(module.shift_size, least=0)
    down, across = (0 if w >= side else by for w, side, by in zip(size, grid.size, shift, strict=True))
    return _cut(grid, size, (down, across), shift_first=False)


def _cut(grid: Grid, size: Pair, shift: Pair, shift_first: bool) -> Places:
    numbers = torch.arange(1.0, 1 + prod(grid.size)).view(1, *grid.size, 1)  # padding will be 0
    down, right = (-side % w for side, w in zip(grid.size, size, strict=True))
    steps = [lambda x: F.pad(x, (0, 0, 0, right, 0, down)), lambda x: x.roll([-by for by in shift], (1, 2))]
    for step in reversed(steps) if shift_first else steps:
        numbers = step(numbers)
    slots = cut_windows(numbers, size).squeeze(-1).long()
    return Places(grid, grid, 0, slots, slots)


def _merging(module: nn.Module, size: Pair) -> Window:
    """Each 2 x 2 neighbours as one token; a map of odd size gets a row or column of zeros."""
    return Window((2, 2), (2, 2), (0, 0), (-(-size[0] // 2), -(-size[1] // 2)), channels=-1)


def _timms_tokens(model: Any) -> tuple[str, ...] | None:
    names = ("class",) if model.has_class_token else ()
    if model.num_prefix_tokens == len(names) + model.num_reg_tokens:
        return names + tuple(f"register {i + 1}" for i in range(model.num_reg_tokens))
    return ("class", "distillation") if hasattr(model, "dist_token") and model.num_prefix_tokens == 2 else None


def _class_token(model: nn.Module) -> tuple[str, ...]:
    return ("class",)


def _two_tokens(model: nn.Module) -> tuple[str, ...]:
    return "class", "distillation"


_KNOWN: dict[str, tuple[Any, Callable[..., Any]]] = {  # a class, and what it is registered with
    "timm.layers.attention.Attention": (places_of, _row),
    "timm.models.vision_transformer.VisionTransformer": (extra_tokens, _timms_tokens),
    "timm.models.swin_transformer.SwinTransformerBlock": (places_of, partial(_windows, shift_first=True)),
    "timm.models.swin_transformer.PatchMerging": (window, _merging),
    "timm.models.swin_transformer_v2.SwinTransformerV2Block": (places_of, partial(_windows, shift_first=True)),
    "timm.models.swin_transformer_v2.PatchMerging": (window, _merging),
    "transformers.models.vit.modeling_vit.ViTAttention": (places_of, _row),
    "transformers.models.vit.modeling_vit.ViTModel": (extra_tokens, _class_token),
    "transformers.models.deit.modeling_deit.DeiTAttention": (places_of, _row),
    "transformers.models.deit.modeling_deit.DeiTModel": (extra_tokens, _two_tokens),
    "transformers.models.swin.modeling_swin.SwinLayer": (places_of, _windows),
    "transformers.models.swin.modeling_swin.SwinPatchMerging": (window, _merging),
    "transformers.models.swinv2.modeling_swinv2.Swinv2Layer": (places_of, _windows),
    "transformers.models.swinv2.modeling_swinv2.Swinv2PatchMerging": (window, _merging),
    "torchvision.models.vision_transformer.EncoderBlock": (places_of, _row),
    "torchvision.models.vision_transformer.VisionTransformer": (extra_tokens, _class_token),
    "torchvision.models.swin_transformer.ShiftedWindowAttention": (places_of, _fixed_windows),
    "torchvision.models.swin_transformer.PatchMerging": (window, _merging),
    "torchvision.models.swin_transformer.PatchMergingV2": (window, _merging),
}


def know(model: nn.Module) -> None:
    """Register those classes of a model's parts that are in the table, and those that they derive from."""
    for kind in {kind for module in model.modules() for kind in type(module).__mro__}:
        dispatcher, function = _KNOWN.get(f"{kind.__module__}.{kind.__qualname__}", (None, None))
        if dispatcher and kind not in dispatcher.registry:
            dispatcher.register(kind, function)
