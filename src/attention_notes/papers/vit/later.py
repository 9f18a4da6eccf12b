"""Models of later papers on the trunk of ``model.py``: what they changed is switched on there by arguments.

DINOv2       Oquab et al. 2023, arXiv 2304.07193: LayerScale, patches of 14 pixels, no head. Its largest model has
             another perceptron, SwiGLU, and is not here.
registers    Darcet et al. 2023, arXiv 2309.16588: DINOv2 with four tokens more. In timm's files the position of the
             class token has been added to it.
DeiT III     Touvron et al. 2022, arXiv 2204.07118: LayerScale, and no position for the class token.
CLIP         Radford et al. 2021, arXiv 2103.00020: the image tower, with a norm before the blocks, no bias where
             patches are mapped, and its own activation. Its head maps to the space of images and texts.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the approximation of GELU with which CLIP was trained."""

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Each number by itself."""
        return x * torch.sigmoid(1.702 * x)


_SIZES = {
    "S": {"dim": 384, "depth": 12, "heads": 6, "hidden": 1536},
    "M": {"dim": 512, "depth": 12, "heads": 8, "hidden": 2048},
    "B": {"dim": 768, "depth": 12, "heads": 12, "hidden": 3072},
    "L": {"dim": 1024, "depth": 24, "heads": 16, "hidden": 4096},
    "H": {"dim": 1280, "depth": 32, "heads": 16, "hidden": 5120},
}
_CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "DINOv2": ({"layer_scale": 1e-5}, ("S/14", "B/14", "L/14")),
    "DINOv2 registers": ({"layer_scale": 1e-5, "registers": 4, "class_position": False}, ("S/14", "B/14", "L/14")),
    "DeiT III": ({"layer_scale": 1e-6, "class_position": False}, ("S/16", "M/16", "B/16", "L/16", "H/14")),
    "CLIP": (
        {"pre_norm": True, "patch_bias": False, "activation": QuickGELU, "norm": nn.LayerNorm},
        ("B/32", "B/16", "L/14"),
    ),
}

LATER: dict[str, dict[str, Any]] = {
    f"{name} {paper}": {**_SIZES[name[0]], "patch": int(name[2:]), **changes}
    for paper, (changes, names) in _CHANGES.items()
    for name in names
}
