"""One of our small models beside the same of somebody else, with random weights."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

LOADED = "transformers, as loaded"
CLASSES, CHANNELS = 23, 5


@dataclass(frozen=True)
class Case:
    """How to build one of ours and the same of somebody else, whose tensors, as loaded, are of this layout."""

    ours: Callable[..., Any]
    theirs: Callable[[], nn.Module]
    layout: str
    image: tuple[int, int]
    channels: int = CHANNELS

    def images(self) -> Tensor:
        return torch.randn(2, self.channels, *self.image)


def randomised(model: nn.Module) -> Any:
    """Random where models start at zero or one, too: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if "logit_scale" in name:
            nn.init.normal_(parameter, mean=1.0, std=0.3)
        elif parameter.ndim == 1 or re.search("pos|token|table", name):
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        out = model(images)
    return getattr(out, "logits", out)
