"""The models of the study: each of about as many parameters, with its paper's parts at a small size."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from attention_notes.papers.cait import cait
from attention_notes.papers.cbam import cbam
from attention_notes.papers.deit import deit
from attention_notes.papers.dnl import DNL
from attention_notes.papers.nest import nest
from attention_notes.papers.non_local import NonLocal, insert
from attention_notes.papers.pvt import pvt
from attention_notes.papers.resnet import resnet
from attention_notes.papers.swin import swin
from attention_notes.papers.twins import gsa, lsa, twins
from attention_notes.papers.vit import vit
from attention_notes.papers.vit.model import glorot

SIDE = 56  # pixels: after a stem of stride 4 a map of 14 x 14, and one of 7 x 7 in the stage after it
Arm = Callable[..., nn.Module]

# two stages instead of four, as the map is too small for more
_TWO: dict[str, Any] = {"depths": (2, 2), "heads": (2, 4), "drop_path": 0.0}
_PYRAMID: dict[str, Any] = {**_TWO, "dims": (32, 64), "ratios": (2, 1), "expansions": (4, 4)}
_LOCAL_GLOBAL: dict[str, Any] = {"windows": (7, 7), "attentions": ((lsa, gsa), (lsa, gsa))}
_FLAT: dict[str, Any] = {"patch": 8, "dim": 56, "depth": 4, "heads": 4, "hidden": 224, "image_size": SIDE}
_NARROW: dict[str, Any] = {"dim": 45, "heads": 3, "hidden": 180}  # two more blocks, of class attention
_RESNET: dict[str, Any] = {"depths": (2, 2), "dilations": (1, 1)}
_NARROW_RESNET: dict[str, Any] = {**_RESNET, "width": 31}


def _with_blocks(width: int, block: Callable[[int], nn.Module], **options: Any) -> nn.Module:
    """A residual network with a block after the first residual block of both stages."""
    return insert(resnet("resnet18", **_RESNET, width=width, **options), {0: (0,), 1: (0,)}, block=block)


_ARMS: Mapping[str, Arm] = {
    "ViT": partial(vit, "Ti/16", **_FLAT),
    "DeiT": partial(deit, "Ti/16 distilled", **_FLAT, drop_path=0.0),
    "CaiT": partial(cait, "XXS24", **{**_FLAT, **_NARROW}, drop_path=0.0, layer_scale=0.1),
    "Swin": partial(swin, "swin_t", dim=34, **_TWO, window=7, image_size=SIDE),
    "Swin V2": partial(swin, "swinv2_t", dim=34, **_TWO, window=7, image_size=SIDE),
    "PVT": partial(pvt, "pvt_tiny", **_PYRAMID, image_size=SIDE),
    "PVT v2": partial(pvt, "pvt_v2_b0", **_PYRAMID),
    "Twins-SVT": partial(twins, "twins_svt_small", **{**_PYRAMID, "dims": (34, 68)}, **_LOCAL_GLOBAL),
    "NesT": partial(nest, "nest_t", dims=(32, 64), **_TWO, image_size=SIDE),
    "ResNet": partial(resnet, "resnet18", **_NARROW_RESNET),
    "ResNet + Non-local": partial(_with_blocks, 30, partial(NonLocal, subsample=2)),
    "ResNet + CBAM": partial(cbam, "cbam_resnet18", **_NARROW_RESNET),
    "ResNet + DNL": partial(_with_blocks, 30, DNL),
}  # fmt: skip
# Their authors draw linear maps with a deviation of 0.02, which suits widths of several hundred: at those here a map
# says little at first. Each is also trained with its maps drawn by their width, as ViT's are.
FIXED = ("DeiT", "CaiT", "Swin", "Swin V2", "PVT", "PVT v2", "Twins-SVT", "NesT")


def by_width(arm: str) -> str:
    """The name of the same model with its linear maps drawn by their width."""
    return f"{arm}, by width"


def _drawn_by_width(make: Callable[..., Any], **options: Any) -> nn.Module:
    model = make(**options)
    getattr(model, "encoder", model).initialise(glorot)
    return model


_DRAWN: Mapping[str, Arm] = {by_width(arm): partial(_drawn_by_width, _ARMS[arm]) for arm in FIXED}
MODELS = tuple(_ARMS)
ARMS: Mapping[str, Arm] = {name: partial(arm, channels=1) for name, arm in {**_ARMS, **_DRAWN}.items()}
# DeiT learns from the ResNet of this study as well
_TEACHER = {"teacher": "resnet:resnet18", "options": {**_NARROW_RESNET, "channels": 1}}
TEACHERS: Mapping[str, tuple[str, dict[str, Any]]] = dict.fromkeys(("DeiT", by_width("DeiT")), ("ResNet", _TEACHER))
