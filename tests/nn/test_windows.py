"""Windows are cut and joined without loss, shifted windows keep regions apart, and a pair is told by its offset."""

import pytest
import torch

from attention_notes.claims import close
from attention_notes.nn.windows import (
    ContinuousPositionBias,
    RelativePositionBias,
    Windows,
    cut_windows,
    four_neighbours,
    join_windows,
    relative_index,
    shift_mask,
)

GRIDS = pytest.mark.parametrize("grid", [(6, 10), (7, 11), (3, 5), (2, 13)], ids=str)


def test_windows_are_cut_image_by_image_and_row_by_row():
    x = torch.arange(2.0 * 4 * 6).view(2, 4, 6, 1)
    windows = cut_windows(x, (2, 3))
    assert windows.shape == (8, 6, 1)
    assert windows[1].flatten().tolist() == [3, 4, 5, 9, 10, 11]
    assert windows[4].flatten().tolist() == [24, 25, 26, 30, 31, 32]
    assert torch.equal(join_windows(windows, (2, 3), grid=(4, 6)), x)


@GRIDS
@pytest.mark.parametrize("shifted", [False, True])
def test_joining_undoes_cutting_padding_and_shifting(grid, shifted):
    windows = Windows(grid, window=(3, 5), shifted=shifted)
    x = torch.randn(2, *grid, 7)
    assert torch.equal(windows.join(windows.cut(x)), x)


def test_a_shift_brings_the_second_half_of_a_window_to_its_start():
    windows = Windows((6, 10), window=(3, 5), shifted=True)
    x = torch.arange(60.0).view(1, 6, 10, 1)
    assert windows.shift == (1, 2)
    assert windows.cut(x)[0, 0] == 12  # row 1 and column 2


def test_the_map_is_padded_before_it_is_shifted():
    windows = Windows((4, 1), window=(3, 1), shifted=True)
    x = torch.arange(1.0, 5).view(1, 4, 1, 1)
    assert windows.cut(x).flatten().tolist() == [2, 3, 4, 0, 0, 1]


def test_the_mask_lets_tokens_see_only_the_piece_that_they_came_with():
    mask = shift_mask((4, 4), window=(2, 2), shift=(1, 1)) == 0
    assert mask[0].all()
    right, below, corner = mask[1], mask[2], mask[3]
    assert right.tolist() == [[a % 2 == b % 2 for b in range(4)] for a in range(4)]
    assert below.tolist() == [[a // 2 == b // 2 for b in range(4)] for a in range(4)]
    assert corner.tolist() == [[a == b for b in range(4)] for a in range(4)]


@GRIDS
def test_the_mask_is_that_of_the_map_itself(grid):
    """Pairs that may look are those whose places, before the shift, lie as far apart as their places in the window."""
    windows = Windows(grid, window=(3, 5), shifted=True)
    if windows.mask is None:
        assert windows.window == grid
        return
    (py, px), (wy, wx) = windows.padded, windows.window
    places = torch.cartesian_prod(torch.arange(float(py)), torch.arange(float(px))).view(1, py, px, 2)
    whole = Windows(windows.padded, window=(wy, wx), shifted=True)
    before = whole.cut(places)
    inside = cut_windows(places, (wy, wx))
    apart = before[:, :, None] - before[:, None]
    expected = (apart == inside[:, :, None] - inside[:, None]).all(-1)
    assert torch.equal(windows.mask == 0, expected)


def test_a_window_is_no_larger_than_the_map_and_a_lone_window_is_not_shifted():
    windows = Windows((2, 13), window=(3, 5), shifted=True)
    assert (windows.window, windows.shift, windows.padded) == ((2, 5), (0, 2), (2, 15))
    assert windows.mask.shape == (3, 10, 10)
    assert Windows((3, 5), window=(3, 5), shifted=True).mask is None


def test_scores_repeat_the_masks_of_an_image_for_every_image():
    windows = Windows((6, 10), window=(3, 5), shifted=True)
    bias = torch.randn(7, 15, 15)
    scores = windows.scores(bias, images=2)
    assert scores.shape == (8, 7, 15, 15)
    assert torch.equal(scores[:4], scores[4:])
    assert torch.equal(scores[0], bias)
    assert Windows((6, 10), window=(3, 5), shifted=False).scores(bias, images=2).shape == (1, 7, 15, 15)


def test_the_index_of_a_pair_is_its_offset():
    index = relative_index((2, 3))
    assert index.shape == (6, 6)
    assert index.diagonal().tolist() == [7] * 6  # the middle of 3 x 5
    assert index[0, 5] == 0  # the query above and left of the key
    assert index[5, 0] == 14
    assert index.unique().numel() == 15
    assert index[0, 1] == index[1, 2] == index[3, 4] == 6


def test_a_bias_depends_on_the_offset_only():
    bias = RelativePositionBias(7, window=(2, 3))
    every = bias()
    assert every.shape == (7, 6, 6)
    assert torch.equal(every[:, 0, 1], bias.table[:, 1, 1])
    assert torch.equal(every[:, 5, 0], bias.table[:, 2, 4])


def test_the_continuous_bias_is_a_network_of_logarithmic_offsets():
    bias = ContinuousPositionBias(7, window=(3, 5))
    for parameter in bias.parameters():
        torch.nn.init.normal_(parameter)
    query, key = (2, 1), (0, 4)
    offsets = [8 * (2 - 0) / 2, 8 * (1 - 4) / 4]
    logs = [(1 if o > 0 else -1) * torch.tensor(1 + abs(o)).log2() / 3 for o in offsets]
    expected = 16 * bias.network(torch.stack(logs)).sigmoid()
    assert close(bias()[:, query[0] * 5 + query[1], key[0] * 5 + key[1]], expected)


def test_the_continuous_bias_keeps_its_answers_in_a_larger_window():
    """An offset of so many tokens means the same to the network, whatever the window."""
    bias = ContinuousPositionBias(7, window=(3, 5))
    before = bias()
    bias.resize((4, 7))
    after = bias().view(7, 4, 7, 4, 7)
    assert close(after[:, :3, :5, :3, :5].flatten(3).flatten(1, 2), before)
    assert bias.coordinates.abs().max() > torch.tensor(9.0).log2() / 3  # beyond what it was trained on


def test_a_table_that_is_resized_keeps_its_middle_and_is_otherwise_bicubic():
    bias = RelativePositionBias(7, window=(2, 3))
    before = bias.table.detach().clone()
    bias.resize((2, 3))
    assert torch.equal(bias.table, before)
    bias.resize((5, 4))
    assert bias.table.shape == (7, 9, 7)
    assert bias().shape == (7, 20, 20)
    assert close(bias.table[:, 4, 3], before[:, 1, 2])


def test_four_neighbours_stand_side_by_side_column_by_column():
    x = torch.arange(6.0).view(1, 2, 3, 1)
    assert four_neighbours(x)[0, 0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]


def test_windows_that_do_not_tile_are_refused(unchecked):
    with pytest.raises(ValueError, match="a map of 7 x 10 cannot be cut into windows of 3 x 5"):
        cut_windows(torch.zeros(1, 7, 10, 2), (3, 5))
