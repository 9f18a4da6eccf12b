"""Stochastic depth: whole samples, the same mean, nothing in evaluation."""

import pytest
import torch

from attention_notes.layers.drop_path import DropPath, depth_rates


def test_a_sample_is_dropped_whole_or_kept_whole_and_the_mean_stays():
    out = DropPath(0.25).train()(torch.ones(4000, 3, 2))
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert out.mean().item() == pytest.approx(1, abs=0.03)


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
