"""Stochastic depth: whole samples, the same mean, nothing in evaluation."""

from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.nn.drop_path import DropPath, depth_rates
from attention_notes.nn.windows import Windows
from attention_notes.papers import pvt, swin, vit


def test_a_sample_is_dropped_whole_or_kept_whole_and_the_mean_stays():
    out = DropPath(0.25).train()(torch.ones(4000, 3, 2))
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert out.mean().item() == pytest.approx(1, abs=0.03)


WINDOWS = Windows((5, 7), window=(5, 7), shifted=False)
BLOCKS = {
    "vit": (partial(vit.Block, 12, heads=3, hidden=7), (5, 35, 12)),
    "swin": (partial(swin.Block, 12, heads=3, windows=WINDOWS), (5, 5, 7, 12)),
    "swin v2": (partial(swin.Block, 12, heads=3, windows=WINDOWS, residual=swin.ResPostNorm), (5, 5, 7, 12)),
    "pvt": (partial(pvt.Block, 12, attention=nn.Linear(12, 12), mlp=nn.Linear(12, 12)), (5, 5, 7, 12)),
}


@pytest.mark.parametrize(("build", "shape"), BLOCKS.values(), ids=BLOCKS.keys())
def test_each_branch_of_a_block_is_dropped_and_nothing_else(build, shape):
    block, x = build().train(), torch.randn(shape)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    places = [module for module in block.modules() if isinstance(module, DropPath)]
    assert not torch.isclose(block(x), x).flatten(1).all(1).any(), "both branches add something"
    entered = []
    for place in places:
        place.p = 1 - 1e-9
        place.register_forward_hook(lambda _, given, out: entered.append((given[0].any().item(), out.any().item())))
    assert torch.equal(block(x), x), "what is left is the stream"
    assert entered == [(True, False)] * 2


def test_evaluation_drops_nothing():
    x = torch.randn(5, 3)
    assert torch.equal(DropPath(0.9).eval()(x), x)


def test_what_is_dropped_equals_timms_in_distribution_and_scale():
    from timm.layers import drop_path

    torch.manual_seed(0)
    theirs = drop_path(torch.ones(2000, 1), 0.3, training=True)
    ours = DropPath(0.3).train()(torch.ones(2000, 1))
    torch.testing.assert_close(ours.unique(), theirs.unique())
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.06)


def test_rates_grow_from_nothing_to_the_rate():
    assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert depth_rates(0.3, 1) == [0]


def test_a_probability_of_one_is_refused():
    with pytest.raises(ValueError, match=r"p=1.0 is no probability"):
        DropPath(1.0)
