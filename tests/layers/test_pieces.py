"""Work in pieces is the work itself: the same numbers, gradients and recordings, whatever the number of rows."""

import pytest
import torch
from torch import nn

from attention_notes.layers import pieces
from attention_notes.layers.pieces import in_pieces
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.probe import record_attention
from attention_notes.seeing import see


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 8, 100])
def test_the_pieces_are_the_whole_and_their_gradients_too(rows):
    work = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return work(x)

    found = in_pieces(counted, x, tokens=2 * rows)
    assert sizes == [rows] * (7 // rows) + [7 % rows] * (7 % rows > 0) or sizes == [7]
    assert max(sizes) <= max(rows, 1)
    expected = work(x)
    assert torch.allclose(found, expected, atol=1e-14)
    gradients = [torch.autograd.grad(y.square().sum(), [x, *work.parameters()]) for y in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-13)


def test_a_row_of_more_tokens_than_asked_for_is_a_piece_by_itself():
    assert in_pieces(lambda x: x.new_full((len(x),), float(len(x))), torch.zeros(3, 9, 4), tokens=5).tolist() == [
        1,
        1,
        1,
    ]


def test_a_gpu_and_a_compiler_get_all_rows_at_once(monkeypatch):
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return x

    in_pieces(counted, torch.zeros(6, 2, device="meta"), tokens=1)
    assert sizes == [6]
    in_pieces(counted, torch.zeros(6, 2), tokens=1)
    assert sizes == [6] + 6 * [1]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    in_pieces(counted, torch.zeros(6, 2), tokens=1)
    assert sizes == [6] + 6 * [1] + [6]


def test_done_counts_the_pieces_also_after_a_work_that_fails():
    seen = []

    def fails_at_the_third(x):
        seen.append(pieces.done.get())
        if len(seen) == 3:
            raise RuntimeError("no")
        return x

    with pytest.raises(RuntimeError, match="no"):
        in_pieces(fails_at_the_third, torch.zeros(4, 1), tokens=1)
    assert seen == [0, 1, 2]
    assert pieces.done.get() == 0


STAGES = {"dim": 6, "heads": (1, 2), "window": 5, "image_size": (132, 164), "num_classes": 3}
PYRAMID = {"dims": (4, 6, 8, 10), "depths": (2, 1, 1, 1), "heads": (1, 2, 2, 2), "num_classes": 3}
SMALL = {
    "swin": lambda: swin("swin_t", depths=(2, 2), **STAGES),
    "swinv2": lambda: swin("swinv2_t", depths=(2, 1), **STAGES),
    "pvt": lambda: pvt("pvt_v2_b0", **PYRAMID),
}


@pytest.mark.parametrize("name", SMALL)
def test_what_is_recorded_and_seen_in_pieces_is_that_of_every_image_by_itself(name):
    model = SMALL[name]().eval()
    images = torch.randn(7, 3, 132, 164) if "swin" in name else torch.randn(7, 3, 128, 160)
    with torch.no_grad(), record_attention(model) as maps:
        together = model(images)
        names = list(maps)
    assert not any("#" in name for name in names)
    alone = [see(model, image[None]) for image in images]
    assert torch.allclose(together, torch.cat([one.output for one in alone]), atol=1e-6)
    seen = see(model, images)
    assert list(seen.layers) == names == list(alone[0].layers)
    for name in names:
        whole = torch.cat([one.layers[name].weights for one in alone])
        assert torch.allclose(maps[name], whole, atol=1e-6)
        at = seen.layers[name].map((60, 70)).places
        assert torch.allclose(at, torch.cat([one.layers[name].map((60, 70)).places for one in alone]), atol=1e-6)
    assert torch.allclose(seen.rollout().places, torch.cat([one.rollout().places for one in alone]), atol=1e-6)


def test_a_module_that_attends_twice_still_has_two_entries():
    model = SMALL["pvt"]().eval()
    images = torch.randn(7, 3, 128, 160)
    with torch.no_grad(), record_attention(model) as maps:
        model(images)
        model(images.flip(0))
    first, second = (maps[f"stages.0.blocks.0.attention.attend{end}"] for end in ("", "#2"))
    assert torch.allclose(first, second.flip(0), atol=1e-6)
