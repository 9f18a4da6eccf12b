"""What the trunks share: classes, maps by index, and the groups of an optimizer."""

import numpy as np
import pytest
import torch
from torch import nn

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.layer_scale import LayerScale
from attention_notes.nn.vision import Backbone, check_classes, linear_head, which_maps


@pytest.mark.parametrize("classes", [None, 1, 7, np.int64(7), torch.tensor(7)], ids=repr)
def test_classes_are_none_or_a_plain_number(classes):
    found = check_classes(classes)
    assert found is None if classes is None else type(found) is int and found == int(classes)


@pytest.mark.parametrize("classes", [0, -3, 2.0, 2.5, "7", True, False, [7]], ids=repr)
def test_what_is_no_number_of_classes_is_refused_with_the_way_out(classes, unchecked):
    with pytest.raises(ValueError, match="give a whole number, 1 or more, or None for a model without a head"):
        check_classes(classes)
    with pytest.raises(ValueError, match="num_classes="):
        linear_head(5, classes)


def test_maps_are_counted_from_both_ends_and_come_in_the_order_that_was_asked_for():
    assert which_maps(None, 3) == [0, 1, 2]
    assert which_maps([-1, 0, np.int64(1), 2, -3], 3) == [2, 0, 1, 2, 0]
    assert which_maps([], 3) == []


@pytest.mark.parametrize("indices", [[3], [0, -4], (7,)], ids=repr)
def test_a_map_that_there_is_not_is_refused_with_the_range(indices, unchecked):
    with pytest.raises(ValueError, match=r"there are 3 maps, 0 to 2, or -3 to -1 from the last one"):
        which_maps(indices, 3)


@pytest.mark.parametrize("indices", [2, "2", [1.0], [None]], ids=repr)
def test_what_are_no_indices_is_refused_with_an_example(indices, unchecked):
    with pytest.raises(ValueError, match=r"give whole numbers in a list, such as \[-1\]"):
        which_maps(indices, 3)


class Part(nn.Module):
    no_weight_decay = ("place", "inner.weight", "net")

    def __init__(self) -> None:
        super().__init__()
        self.place, self.free = (nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
        self.inner, self.net, self.scale = nn.Linear(2, 2), nn.Linear(2, 2), LayerScale(2, start=0.1)


class Foreign(nn.Module):
    """As in timm: the names are what a method returns."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.map = nn.Parameter(torch.zeros(1, 1, 2)), nn.Conv2d(2, 2, 1)

    def no_weight_decay(self) -> set[str]:
        return {"token"}


class Trunk(Backbone):
    """A stem, two blocks with a map between them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 2
        self.stem = Foreign()
        self.stages = nn.Sequential(Blocks(Part()), nn.Sequential(nn.Linear(2, 2), Blocks(nn.Linear(2, 2))))
        self.norm, self.head = nn.LayerNorm(2), linear_head(2, 3)


def named(model: nn.Module, groups: list) -> dict[str, tuple[float, float]]:
    """Rate and decay of each parameter by its name; none may come twice."""
    names = {p: name for name, p in model.named_parameters()}
    found = [(names[p], (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


def test_each_parameter_has_the_rate_of_its_layer_and_the_decay_of_its_kind_by_hand():
    model = Trunk()
    found = named(model, model.parameter_groups(1.0, weight_decay=0.3, layer_decay=0.5))
    part = "stages.0.0"
    assert found == {
        "stem.token": (0.125, 0),
        "stem.map.weight": (0.125, 0.3),
        "stem.map.bias": (0.125, 0),
        f"{part}.place": (0.25, 0),
        f"{part}.free": (0.25, 0.3),
        f"{part}.inner.weight": (0.25, 0),
        f"{part}.inner.bias": (0.25, 0),
        f"{part}.net.weight": (0.25, 0),
        f"{part}.net.bias": (0.25, 0),
        f"{part}.scale.gamma": (0.25, 0),
        "stages.1.0.weight": (0.25, 0.3),  # between the two blocks
        "stages.1.0.bias": (0.25, 0),
        "stages.1.1.0.weight": (0.5, 0.3),
        "stages.1.1.0.bias": (0.5, 0),
        "norm.weight": (1, 0),
        "norm.bias": (1, 0),
        "head.weight": (1, 0.3),
        "head.bias": (1, 0),
    }


def test_groups_come_in_the_order_of_the_layers_and_only_as_many_as_are_needed():
    model = Trunk()
    rates = [group["lr"] for group in model.parameter_groups(1.0, layer_decay=0.5)]
    assert rates == sorted(rates)
    assert len(rates) == 8
    assert [g["lr"] for g in model.parameter_groups(0.25)] == [0.25] * 8
    assert all(group.keys() == {"params", "lr", "weight_decay"} for group in model.parameter_groups(1))


def test_a_shared_parameter_comes_once_where_it_is_first_and_a_frozen_one_not_at_all():
    model = Trunk()
    model.head.weight = nn.Parameter(torch.zeros(2, 2))
    model.stages[1][0].weight = model.head.weight
    model.stem.requires_grad_(False)
    found = named(model, model.parameter_groups(1.0, weight_decay=0.3, layer_decay=0.5))
    assert found["stages.1.0.weight"] == (0.25, 0.3)
    assert "head.weight" not in found
    assert not [name for name in found if name.startswith("stem")]
    torch.optim.AdamW(model.parameter_groups(1.0)).step()


@pytest.mark.parametrize(
    ("name", "number"),
    [("lr", -1), ("weight_decay", -0.1), ("layer_decay", 0), ("layer_decay", 1.5), ("lr", float("nan"))],
)
def test_numbers_out_of_range_are_named(name, number, unchecked):
    with pytest.raises(ValueError, match=f"{name}={number}"):
        Trunk().parameter_groups(**{"lr": 1, name: number})


def test_a_trunk_whose_blocks_are_unknown_says_so(unchecked):
    model = Trunk()
    model.stages = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"does not say what its blocks are: put them into nn.checkpointing.Blocks"):
        model.checkpointing()
    with pytest.raises(ValueError, match="does not say what its blocks are"):
        model.parameter_groups(1.0, layer_decay=0.5)
    assert len(named(model, model.parameter_groups(1.0))) == 9


def test_the_classes_are_those_of_the_last_map_of_whatever_the_head_is():
    model = Trunk()
    assert model.num_classes == 3
    model.head = nn.Sequential(nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 4))
    assert model.num_classes == 4
    assert model.reset_head(None).num_classes is None
    assert model.reset_head(np.int64(6)).num_classes == 6
