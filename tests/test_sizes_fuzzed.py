"""Sizes that nobody thought of: a model is built, stored, loaded and resized, or the sizes are refused by name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from attention_notes.papers.cbam import cbam
from attention_notes.papers.deit import deit
from attention_notes.papers.non_local import NonLocal, insert
from attention_notes.papers.pvt import pvt
from attention_notes.papers.resnet import ResNet, basic
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import MeanPooling, vit

BATCH = 2
KINDS = (int, np.int64, np.uint8, torch.tensor)  # of whole numbers, as others write them
PAIRS = (tuple, list, np.array, torch.Size)


@dataclass(frozen=True)
class Family:
    """A factory, small but for what is drawn, and the arguments that are: with each the largest number to draw."""

    build: Callable[..., nn.Module]
    sides: Mapping[str, int] = field(default_factory=dict)  # one number or two
    numbers: Mapping[str, int] = field(default_factory=lambda: {"channels": 5, "num_classes": 9})
    sized: bool = True  # whether it is built for a size of images
    cell: int = 1  # what tiles an image, where no patch is drawn
    largest: int = 40  # image


def blocked(**options: Any) -> nn.Module:
    net = ResNet(basic, depths=(2, 1), dilations=(1, 1), width=4, **options)
    return insert(net, {0: (0,)}, block=partial(NonLocal, subsample=2))


TINY = {"depth": 1, "dim": 12, "heads": 2, "hidden": 8}
STAGES = {"dims": (4, 6, 8, 10), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "ratios": (3, 2, 2, 1)}
STAGES |= {"expansions": (2, 2, 2, 2)}
HEADS = {"channels": 5, "num_classes": 9, "heads": 5}
WINDOWS = {"patch": 5, "window": 6}
FAMILIES = {
    "vit": Family(partial(vit, "Ti/16", **TINY), {"patch": 12}),
    "vit, pooled, with registers": Family(
        partial(vit, "Ti/16", **TINY, pooling=MeanPooling, registers=2), {"patch": 12}, HEADS
    ),
    "deit distilled": Family(partial(deit, "Ti/16 distilled", **TINY), {"patch": 12}),
    "swin": Family(partial(swin, "swin_t", dim=6, depths=(2, 2), heads=(1, 2)), WINDOWS),
    "swin v2": Family(partial(swin, "swinv2_t", dim=6, depths=(2, 2), heads=(1, 2)), WINDOWS),
    "pvt": Family(partial(pvt, "pvt_tiny", **STAGES), cell=32, largest=100),
    "pvt v2": Family(partial(pvt, "pvt_v2_b0", **STAGES), largest=80),
    "pvt v2 linear": Family(partial(pvt, "pvt_v2_b2_li", **STAGES), largest=80),
    "resnet": Family(partial(ResNet, basic, depths=(1, 1), dilations=(1, 1), width=4), sized=False),
    "cbam": Family(partial(cbam, "cbam_resnet18", width=16), sized=False),
    "non_local": Family(blocked, sized=False),
}


def number(largest: int) -> Any:
    """A whole number, now and then 0."""
    return st.integers(0, 10 * largest).map(lambda n: -(-n // 10))


def sizes(largest: int) -> Any:
    """One number or two, of whatever kind."""
    two = st.builds(lambda kind, y, x: kind([y, x]), st.sampled_from(PAIRS), number(largest), number(largest))
    return st.builds(lambda kind, n: kind(n), st.sampled_from(KINDS), number(largest)) | two


def images(largest: int, cells: tuple[int, int]) -> Any:
    """Height and width of an image, which cells of these sizes mostly tile."""
    tiles = (number(max(1, largest // max(cell, 1))).map(lambda n, c=cell: n * c) for cell in cells)
    tiled = st.tuples(*tiles)
    return st.tuples(number(largest), number(largest)) | tiled | tiled | tiled


def counts(largest: int) -> Any:
    return st.builds(lambda kind, n: kind(n), st.sampled_from(KINDS[:2]), number(largest))


def sides(size: Any) -> tuple[int, int]:
    numbers = torch.as_tensor(size).reshape(-1).tolist()
    return (numbers * 2)[0], (numbers * 2)[1]


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """What comes of it, and the words with which sizes are refused, none if they are taken."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error)


def named(words: str, family: Family, image: tuple[int, int], given: Mapping[str, Any]) -> bool:
    """Whether the words have one of the numbers in them, a side of the image's maps, or what has to tile an image."""
    said = {*map(int, re.findall(r"\d+", words))}
    numbers = ({family.cell} - {1}) | {-(-side // 2**i) for side in image for i in range(6)}
    for value in given.values():
        numbers |= {*torch.as_tensor([] if value is None else value).reshape(-1).tolist()}
    return bool(said & numbers)


def randomised(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def answered(model: nn.Module, image: tuple[int, int], channels: int) -> torch.Tensor:
    torch.manual_seed(0)
    return model.eval()(torch.randn(BATCH, channels, *image))


def again(family: Family, given: Mapping[str, Any], model: nn.Module) -> nn.Module:
    """The model that is built for these sizes, with the state of another."""
    other = family.build(**given)
    other.load_state_dict(load(save(model.state_dict())))
    return other


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # what it sets, it sets for all examples
)
@hypothesis.given(data=st.data())
def test_of_any_sizes_a_model_is_the_same_stored_and_resized_or_the_sizes_are_named(family, unchecked, data):
    given = {name: data.draw(sizes(largest), name) for name, largest in family.sides.items()}
    given |= {name: data.draw(counts(largest), name) for name, largest in family.numbers.items()}
    if data.draw(st.booleans(), "no head"):
        given["num_classes"] = None
    cells = sides(given.get("patch", family.cell))
    image, other = (data.draw(images(family.largest, cells), name) for name in ("image", "another image"))
    if family.sized:
        given["image_size"] = data.draw(st.sampled_from(PAIRS), "kind")(image)
    channels, classes = int(given["channels"]), given["num_classes"]
    model, words = attempt(lambda: randomised(family.build(**given)))
    if model is not None:
        found, words = attempt(lambda: answered(model, image, channels))
    if words:
        assert named(words, family, image, given), words
        return
    assert found.shape[0] == BATCH
    assert classes is None or found.shape == (BATCH, int(classes))
    assert found.isfinite().all()
    assert torch.equal(answered(again(family, given, model), image, channels), found)
    if not hasattr(model, "resize") or not family.sized:
        return
    changed = {"image_size": other}
    if "window" in given:
        changed["window"] = data.draw(sizes(6), "another window")
    found, words = attempt(lambda: answered(model.resize(**changed), other, channels))
    if words:
        assert named(words, family, other, changed), words
        return
    assert torch.equal(answered(again(family, {**given, **changed}, model), other, channels), found)
