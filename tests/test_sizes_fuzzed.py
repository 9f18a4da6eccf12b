"""Sizes that nobody thought of: a model is built, stored, loaded and resized, or the sizes are refused by name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    sides: Mapping[str, int]  # one number or two
    numbers: Mapping[str, int]


def blocked(**options: Any) -> nn.Module:
    net = ResNet(basic, depths=(2, 1), dilations=(1, 1), width=4, **options)
    return insert(net, {0: (0,)}, block=partial(NonLocal, subsample=2))


TINY = {"depth": 1, "dim": 12, "heads": 2, "hidden": 8}
STAGES = {"dims": (4, 6, 8, 10), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "ratios": (3, 2, 2, 1)}
STAGES |= {"expansions": (2, 2, 2, 2)}
FLAT = {"image_size": 40, "patch": 12}
COUNTS = {"channels": 5, "num_classes": 9}
FAMILIES = {
    "vit": Family(partial(vit, "Ti/16", **TINY), FLAT, COUNTS),
    "vit, pooled, with registers": Family(
        partial(vit, "Ti/16", **TINY, pooling=MeanPooling, registers=2), FLAT, {**COUNTS, "heads": 5}
    ),
    "deit distilled": Family(partial(deit, "Ti/16 distilled", **TINY), FLAT, COUNTS),
    "swin": Family(
        partial(swin, "swin_t", dim=6, depths=(2, 2), heads=(1, 2)), {"image_size": 40, "patch": 5, "window": 6}, COUNTS
    ),
    "swin v2": Family(
        partial(swin, "swinv2_t", dim=6, depths=(2, 2), heads=(1, 2)),
        {"image_size": 40, "patch": 5, "window": 6},
        COUNTS,
    ),
    "pvt": Family(partial(pvt, "pvt_tiny", **STAGES), {"image_size": 100}, COUNTS),
    "pvt v2": Family(partial(pvt, "pvt_v2_b0", **STAGES), {"image_size": 70}, COUNTS),
    "pvt v2 linear": Family(partial(pvt, "pvt_v2_b2_li", **STAGES), {"image_size": 70}, COUNTS),
    "resnet": Family(partial(ResNet, basic, depths=(1, 1), dilations=(1, 1), width=4), {}, COUNTS),
    "cbam": Family(partial(cbam, "cbam_resnet18", width=16), {}, COUNTS),
    "non_local": Family(blocked, {}, COUNTS),
}


def sizes(largest: int) -> Any:
    """One number or two, more often small or a round one, of whatever kind."""
    number = st.integers(0, largest) | st.integers(0, largest // 8).map(lambda n: 8 * n)
    two = st.builds(lambda kind, y, x: kind([y, x]), st.sampled_from(PAIRS), number, number)
    return st.builds(lambda kind, n: kind(n), st.sampled_from(KINDS), number) | two


def counts(largest: int) -> Any:
    return st.builds(lambda kind, n: kind(n), st.sampled_from(KINDS[:2]), st.integers(0, largest))


def sides(size: Any) -> tuple[int, int]:
    numbers = np.array(size).reshape(-1).tolist()
    return (numbers * 2)[0], (numbers * 2)[1]


def must_name(error: ValueError, given: Mapping[str, Any]) -> None:
    """The words have one of the numbers in them."""
    said = {*map(int, re.findall(r"\d+", str(error)))}
    numbers = {n for value in given.values() if value is not None for n in np.array(value).reshape(-1).tolist()}
    assert said & numbers, error


def answered(model: nn.Module, image: tuple[int, int], channels: int) -> torch.Tensor:
    torch.manual_seed(0)
    return model.eval()(torch.randn(BATCH, channels, *image))


def again(family: Family, given: Mapping[str, Any], model: nn.Module) -> nn.Module:
    """The model that is built for these sizes, with the state of another."""
    other = family.build(**given)
    other.load_state_dict(load(save(model.state_dict())))
    return other


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@hypothesis.settings(max_examples=12, deadline=None, derandomize=True, database=None)
@hypothesis.given(data=st.data())
def test_of_any_sizes_a_model_is_the_same_stored_and_resized_or_the_sizes_are_named(family, data):
    given = {name: data.draw(sizes(largest), name) for name, largest in family.sides.items()}
    given |= {name: data.draw(counts(largest), name) for name, largest in family.numbers.items()}
    if data.draw(st.booleans(), "no head"):
        given["num_classes"] = None
    image, other = (sides(data.draw(sizes(40), "image")) for _ in range(2))
    if "image_size" in given:
        image = sides(given["image_size"])
    try:
        model = family.build(**given)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        found = answered(model, image, int(given["channels"]))
    except ValueError as error:
        must_name(error, {**given, "image": image})
        return
    classes = given["num_classes"]
    assert found.shape[0] == BATCH
    assert classes is None or found.shape == (BATCH, int(classes))
    assert found.isfinite().all()
    assert torch.equal(answered(again(family, given, model), image, int(given["channels"])), found)
    if not hasattr(model, "resize") or "image_size" not in given:
        return
    changed = {"image_size": other}
    if "window" in given:
        changed["window"] = data.draw(sizes(6), "another window")
    try:
        model.resize(**changed)
        found = answered(model, other, int(given["channels"]))
    except ValueError as error:
        must_name(error, changed)
        return
    assert torch.equal(answered(again(family, {**given, **changed}, model), other, int(given["channels"])), found)
