"""Vectors of length one."""

import pytest
import torch
import torch.nn.functional as F

from attention_notes.nn.norms import unit

KINDS = pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])


@KINDS
def test_vectors_are_divided_by_their_length(kind):
    x = torch.randn(3, 5, 7, dtype=kind)
    assert torch.equal(unit(x), F.normalize(x, dim=-1))
    assert torch.allclose(unit(x).float().norm(dim=-1), torch.ones(3, 5), atol=10 * torch.finfo(kind).eps)


@KINDS
def test_a_vector_of_zeros_stays_zero_and_its_gradient_is_finite(kind):
    x = torch.zeros(5, 7, dtype=kind, requires_grad=True)
    (unit(x) * 60).sum().backward()
    assert not unit(x).any()
    assert x.grad.isfinite().all()


def test_short_vectors_keep_their_direction_in_half_precision():
    x = torch.randn(5, 7)
    x = 0.002 * x / x.norm(dim=-1, keepdim=True)
    assert (unit(x.half()) - unit(x)).abs().max() < 0.01
