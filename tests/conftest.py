"""Checked shapes for every call into the package, and references that import on any build."""

import gc
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import einops.einops
import jaxtyping
import pytest
import torch

LOWEST = bool(os.environ.get("LOWEST"))  # the lowest versions are tested, as users have them
# The axes in the package's signatures are checked here, and only here.
if not LOWEST:
    jaxtyping.install_import_hook("attention_notes", "beartype.beartype")

REFERENCES = ("mmcv", "onnx", "onnxruntime", "onnxscript", "timm", "torchvision", "transformers", "vit_pytorch")
_torchvision_schemas = None


def pytest_configure() -> None:
    """Let torchvision's and timm's models import where torchvision's compiled part does not fit this torch.

    The two operators are only declared; no test here calls them.
    """
    global _torchvision_schemas
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    compiled = next(Path(spec.origin).parent.glob("_C*.so"), None)
    try:
        if compiled is None:
            raise OSError("torchvision has no compiled part")
        torch.ops.load_library(str(compiled))
    except OSError:
        _torchvision_schemas = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _torchvision_schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def pytest_collection_finish() -> None:
    """What was imported and collected stays: leave it out of every later search for garbage, which is half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give every test the same random numbers, whatever ran before it: any others, if the shell's SEED says so."""
    torch.manual_seed(int(os.environ.get("SEED", "0")))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the checked axes off, as they are for users: what is left are the package's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


_RECIPES: dict[tuple, Any] = {}
_parse = einops.einops._prepare_transformation_recipe


@pytest.fixture
def patterns_once(monkeypatch) -> None:
    """The compiler traces the parsing of each pattern of einops once, not at each of its uses.

    Einops remembers what it parsed in a cache that the compiler does not see, and so two thirds of the time of tracing
    a model are the same few patterns again and again. It sees a dictionary.
    """

    def once(pattern: str, operation: str, axes_names: tuple[str, ...], ndim: int) -> Any:
        key = (pattern, operation, axes_names, ndim)
        if not torch.compiler.is_dynamo_compiling():
            return _parse(*key)
        if key not in _RECIPES:
            _RECIPES[key] = _parse.__wrapped__(*key)
        return _RECIPES[key]

    monkeypatch.setattr(einops.einops, _parse.__name__, once)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Beside the lowest versions there are no other libraries' models: what asks for them is skipped."""
    report: Any = yield
    if LOWEST and call.excinfo is not None and getattr(call.excinfo.value, "name", None) in REFERENCES:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, str(call.excinfo.value))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """So is a file that asks for them at its head."""
    report: Any = yield
    if LOWEST and report.failed and any(f"No module named '{name}" in str(report.longrepr) for name in REFERENCES):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "a library is left out")
    return report
