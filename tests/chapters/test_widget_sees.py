"""Who sees whom, measured, against what is known of each model; and the tables of the shifted windows."""

import base64
import json
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from attention_notes.chapters.widgets import unpack
from attention_notes.chapters.widgets.sees import measure, pack_bits, pull, stacks, who_sees_whom
from attention_notes.chapters.widgets.windows import allowed_pairs, by_colour, shifted_windows, tables_of
from attention_notes.nn.windows import Windows

SIDE, WINDOW, BLOCKS = 14, 7, 6
GLOBAL = ("ViT", "PVT", "Non-local")


@pytest.fixture(scope="module")
def models():
    return stacks(side=SIDE, window=WINDOW, blocks=BLOCKS)


@pytest.fixture(scope="module")
def masks(models):
    return {name: measure(blocks, side=SIDE) for name, blocks in models.items()}


def places():
    return torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))


def unpack_bits(packed, width):
    rows = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(-1, packed["row"])
    return torch.from_numpy(np.unpackbits(rows, axis=1, count=width, bitorder="little")).bool()


@pytest.mark.parametrize("name", GLOBAL)
def test_one_block_of_global_attention_sees_every_cell(masks, name):
    assert masks[name].all()


def test_k_convolutions_see_a_square_of_2k_plus_1(masks):
    away = (places()[:, None] - places()).abs().amax(-1)
    for k, mask in enumerate(masks["3 x 3 convolution"], start=1):
        assert torch.equal(mask, away <= k)
        assert mask[7 * SIDE + 7].sum() == (2 * k + 1) ** 2


def test_windows_that_are_not_shifted_see_themselves_at_any_depth(masks):
    window = places() // WINDOW
    same = (window[:, None] == window).all(-1)
    assert all(torch.equal(mask, same) for mask in masks["Swin, not shifted"])


def test_shifted_windows_connect_neighbours_in_two_blocks_and_all_in_three(masks):
    one, two, three = masks["Swin, shifted"][:3]
    across = 6 * SIDE + 6, 7 * SIDE + 7  # neighbours, with the middle of the map between them
    assert torch.equal(one, masks["Swin, not shifted"][0])
    assert not one[across]
    assert two[across]
    assert (two.sum(-1) >= one.sum(-1)).all()
    assert torch.equal(two[0], one[0]), "what came round the edge is masked"
    assert not two.all()
    assert three.all()


def test_a_deeper_stack_takes_no_cell_away(masks):
    assert all((deep >= shallow).all() for mask in masks.values() for shallow, deep in pairwise(mask))


def test_what_is_seen_stands_far_above_rounding(models):
    for name, blocks in models.items():
        for depth in (1, BLOCKS):
            pulls = pull(blocks[:depth], side=SIDE, cells=[0, SIDE * SIDE // 2 + 5])
            assert pulls[pulls > 0].min() > 1e-11 * pulls.max(), name


def test_cells_do_not_see_what_only_masked_pairs_would_show(models):
    """Without its mask the corner sees other borders: the zero that is measured comes from the mask."""
    blocks = stacks(side=SIDE, window=WINDOW, blocks=2)["Swin, shifted"][1:]
    corner = SIDE * SIDE - 1
    before = (pull(blocks, side=SIDE, cells=[corner]) > 0).sum()
    blocks[0].attention.windows.mask.zero_()
    assert (before, (pull(blocks, side=SIDE, cells=[corner]) > 0).sum()) == (16, 49)


def test_deeper_blocks_are_measured_again_where_a_corner_falls_out():
    """All cells see all after one block; a second that forgets must not be taken for full."""

    class Forgets(torch.nn.Module):
        def forward(self, x):
            return x * 0 + 1

    blocks = [*stacks(side=6, window=3, blocks=1)["ViT"], Forgets()]
    first, second = measure(blocks, side=6)
    assert first.all()
    assert not second.any()


@pytest.fixture(scope="module")
def figure():
    return who_sees_whom()


def test_the_figure_holds_what_was_measured(figure, masks):
    data = json.loads(figure.json)
    bits = unpack_bits(data["masks"], SIDE * SIDE)
    assert [m["name"] for m in data["models"]] == list(masks)
    for model in data["models"]:
        assert torch.equal(bits[torch.tensor(model["seen"])], masks[model["name"]])
    borders = {m["name"]: m["borders"] for m in data["models"]}
    assert borders["Swin, not shifted"] == [[7]] * BLOCKS
    assert borders["Swin, shifted"] == [[7], [3, 10]] * (BLOCKS // 2)
    assert borders["ViT"] == [[]] * BLOCKS


def test_the_figure_says_its_numbers_and_is_small(figure, masks):
    cell = json.loads(figure.json)["start"]
    for name, mask in masks.items():
        assert f"{name}: {', '.join(str(int(m[cell].sum())) for m in mask)}" in figure.alt
    assert len(figure.json) < 100_000


def test_the_random_numbers_of_the_caller_stay_as_they_are():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    who_sees_whom(side=6, window=3, blocks=2)
    assert torch.equal(torch.rand(3), expected)


def test_bits_are_packed_by_rows_the_lowest_first():
    rows = torch.tensor([[True] + [False] * 8 + [True], [False] * 9 + [True]])
    packed = pack_bits(rows)
    assert packed["row"] == 2
    assert list(base64.b64decode(packed["bytes"])) == [1, 2, 0, 2]


@pytest.fixture(scope="module")
def windows():
    return tuple(Windows((SIDE, SIDE), window=(WINDOW, WINDOW), shifted=shift) for shift in (False, True))


def test_the_tables_say_which_token_is_where(windows):
    tables = tables_of(*windows)
    numbers = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
    assert torch.equal(tables["rolled"], numbers.roll((-3, -3), (0, 1)).flatten())
    assert torch.equal(tables["back"], numbers.flatten())
    assert torch.equal(tables["plain"][1], numbers[:7, 7:].flatten())
    assert torch.equal(tables["shifted"][0], numbers[3:10, 3:10].flatten())
    assert [len(pieces.unique()) for pieces in tables["pieces"]] == [1, 2, 2, 4]


def test_the_mask_lets_through_the_pairs_of_one_piece(windows):
    allowed, pieces = allowed_pairs(windows[1]), tables_of(*windows)["pieces"]
    assert torch.equal(allowed, pieces[:, :, None] == pieces[:, None, :])
    # pieces of 4 and 3 rows of seven; at the corner 4 x 4, 4 x 3, 3 x 4 and 3 x 3
    assert allowed.sum((1, 2)).tolist() == [49**2, 28**2 + 21**2, 28**2 + 21**2, 16**2 + 12**2 + 12**2 + 9**2]
    with pytest.raises(ValueError, match="have no mask"):
        allowed_pairs(windows[0])


def test_the_weights_are_attention_within_the_mask(windows):
    image = torch.rand(3, 224, 224)
    weights, allowed = by_colour(image, windows[1]), allowed_pairs(windows[1])
    assert torch.allclose(weights.sum(-1), torch.ones(4, 49))
    assert not weights[~allowed].any()
    assert (weights.diagonal(dim1=1, dim2=2) > 0).all()
    flat = by_colour(torch.cat([torch.zeros(3, 224, 96), torch.ones(3, 224, 128)], dim=2), windows[1])
    left = tables_of(*windows)["shifted"][0] % SIDE < 6  # the black tokens of the first window
    assert flat[0][left][:, left].sum(-1).min() > 0.99, "tokens look at tokens of their own colour"


def test_the_figure_of_windows_holds_the_tables_the_mask_and_the_photograph(windows):
    figure = shifted_windows(torch.rand(3, 100, 100))
    data, tables = json.loads(figure.json), tables_of(*windows)
    assert all(torch.equal(torch.tensor(data[name]), table) for name, table in tables.items())
    assert torch.equal(unpack_bits(data["allowed"], 49).view(4, 49, 49), allowed_pairs(windows[1]))
    assert unpack(data["weights"]).sum(-1).sub(1).abs().max() < 0.1
    kind, photo = data["photo"].split(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(photo))).size == (224, 224)
    assert "2401, 1225, 1225, 625" in figure.alt
    assert len(figure.json) < 100_000
