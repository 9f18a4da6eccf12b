"""torchvision where its compiled part does not fit this torch: a CUDA build beside a torch for CPUs."""

import importlib.util
from pathlib import Path

import torch

_declared = None


def declare_operators() -> None:
    """Declare the two operators that torchvision's Python part asks for; no test here calls them."""
    global _declared
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    compiled = next(Path(spec.origin).parent.glob("_C*.so"), None)
    try:
        if compiled is None:
            raise OSError("torchvision has no compiled part")
        torch.ops.load_library(str(compiled))
    except OSError:
        _declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
