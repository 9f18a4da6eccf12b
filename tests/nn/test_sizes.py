"""Sizes, as users give them."""

import numpy as np
import pytest
import torch

from attention_notes.nn.sizes import pair
from attention_notes.nn.windows import RelativePositionBias
from attention_notes.papers.pvt import LearnedPositions
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import resize_positions, vit


@pytest.mark.parametrize(
    "size", [(3, 5), [3, 5], torch.Size([3, 5]), np.array([3, 5]), torch.tensor([3, 5]), (np.int64(3), 5)], ids=repr
)
def test_two_sides_of_any_kind_are_two_plain_numbers(size):
    assert pair(size) == (3, 5)
    assert [type(side) for side in pair(size)] == [int, int]


@pytest.mark.parametrize("size", [3, np.int64(3), np.uint8(3), torch.tensor(3)], ids=repr)
def test_one_number_of_any_kind_is_both_sides(size):
    assert pair(size) == (3, 3)
    assert type(pair(size)[0]) is int


@pytest.mark.parametrize("size", [3.0, "35", (3,), (3, 5, 7), (3.0, 5), None, []], ids=repr)
def test_what_is_no_size_is_refused_with_what_is(size, unchecked):
    with pytest.raises(ValueError, match="is no size: give one whole number for both sides, or two, height and width"):
        pair(size)


@pytest.mark.parametrize("size", [0, -3, (3, 0), [-1, 5]], ids=repr)
def test_a_size_is_1_or_more(size, unchecked):
    with pytest.raises(ValueError, match="is no size: height and width are 1 or more"):
        pair(size)


def test_models_take_and_are_resized_to_sizes_of_any_kind():
    sizes = {"depth": 1, "dim": 12, "heads": 3, "hidden": 8}
    model = vit("Ti/16", image_size=[32, 48], patch=np.int64(16), **sizes)
    assert model(torch.randn(1, 3, 32, 48)).shape == (1, 1000)
    assert model.resize(torch.Size([48, 32]))(torch.randn(1, 3, 48, 32)).shape == (1, 1000)
    assert vit("Ti/16", image_size=32, **sizes).resize([32, 32]).patches.image_size == (32, 32)
    maps = swin("swin_t", dim=6, depths=(2,), heads=(3,), image_size=np.array([16, 24]), window=[2, 3])
    assert maps.window == (2, 3)
    assert maps.resize([24, 16], window=np.int64(2)).window == (2, 2)


def test_parts_that_are_given_their_own_size_as_a_list_keep_their_tables(unchecked):
    bias = RelativePositionBias(3, window=[2, 3])
    table = bias.table
    for window in ((2, 3), [2, 3], np.array([2, 3]), torch.Size([2, 3])):
        bias.resize(window)
        assert bias.table is table
    bias.resize([3, 3])
    assert bias.table.shape == (3, 5, 5)
    positions = torch.randn(1, 7, 4)
    assert resize_positions(positions, grid=[2, 3], to=(2, 3)) is positions
    place = LearnedPositions(4, grid=[2, 3])
    table = place.table
    place.resize([2, 3])
    assert place.table is table
