"""Other people's models of the same sizes, and how far their logits are from ours when the weights are the same."""

import importlib.util
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attention_notes.papers import Reference
from attention_notes.weights import to_layout


def difference(build: Callable[[], nn.Module], reference: Reference, images: Float[Tensor, "b ch y x"]) -> float:
    """The largest difference between two logits, of ours and of the reference with the same random weights.

    Relative to the reference's logit where that is above one; infinite where the reference does not take the weights.
    """
    with _Undrawn():
        ours, theirs = build(), reference.build().eval()
    fill(ours)
    try:
        theirs.load_state_dict(to_layout(ours, reference.layout), assign=True)
    except (RuntimeError, ValueError):  # other shapes, or other names
        return math.inf
    with torch.inference_mode():
        out: Any = theirs(images)
        expected = getattr(out, "logits", out)
        return ((ours(images) - expected).abs() / expected.abs().clamp(min=1)).max().item()


@torch.no_grad()
def fill(model: nn.Module, *, seed: int = 0) -> None:
    """Give every parameter random numbers, those that start at zero or one too, of a size that lets signals pass.

    A million numbers are drawn and laid end to end: drawing billions would take longer than running the model. Their
    count is prime, so that no two matrices, rows or heads come out equal.
    """
    count = 1_000_003
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(seed)).repeat(2)
    at = 0
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        for piece in flat.split(count):
            piece.copy_(drawn[at : at + len(piece)])
            at = (at + len(piece)) % count
        if parameter.ndim > 1:
            flat.mul_(max(parameter[0].numel() ** -0.5, 0.02))
        else:
            flat.mul_(0.1).add_(float(name.endswith("weight")))  # the scale of a norm


class _Undrawn(TorchFunctionMode):
    """Within it, models start at zero: to draw their first values, which ``fill`` replaces, takes longer than to run.

    Zero, and not what the memory happens to hold: a truncated draw repeats until all values lie between its bounds.
    """

    draws = re.compile(r"(uniform|normal|erfinv|(kaiming|xavier|trunc)_\w+)_")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.draws.fullmatch(getattr(func, "__name__", "")):
            return (args[0] if args else kwargs["tensor"]).detach().zero_()
        return func(*args, **kwargs)


def installed(library: str) -> bool:
    """Whether a reference library is there."""
    if importlib.util.find_spec(library) is None:
        return False
    _declare_torchvision()
    return True


_schemas: list[Any] = []


def _declare_torchvision() -> None:
    """Let timm and transformers be imported where torchvision's compiled part does not fit this torch.

    They import torchvision, which looks two of its operators up; no model here calls them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    compiled = next(Path(spec.origin).parent.glob("_C*.so"), None)
    with suppress(OSError):
        if compiled is not None:
            torch.ops.load_library(str(compiled))
            return
    _schemas.append(torch.library.Library("torchvision", "DEF"))
    for name in ("nms", "qnms"):
        _schemas[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
