"""Derivatives that the fused kernels do not have: right by PyTorch's math kernel, and by recorded weights."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attention_notes.inspect import record_attention
from attention_notes.nn.attention import attention
from tests.contract import randomised, run
from tests.test_contract import MODELS

FIRST = {name.split()[0]: name for name in reversed(MODELS) if not MODELS[name].no_softmax}  # of each family
every_family = pytest.mark.parametrize("name", FIRST.values())


def curvature(outputs: Tensor, leaves: list[Tensor], directions: list[Tensor]) -> list[Tensor]:
    """The second derivative of a score times a direction, for each leaf."""
    first = torch.autograd.grad(outputs.square().sum(), leaves, create_graph=True)
    along = sum((gradient * v).sum() for gradient, v in zip(first, directions, strict=True))
    return [*torch.autograd.grad(along, leaves, allow_unused=True, materialize_grads=True)]


@every_family
def test_every_family_has_second_derivatives_by_the_math_kernel_and_by_recorded_weights(name):
    model, inputs = randomised(MODELS[name]).double(), MODELS[name].inputs()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    leaves = [p for p in model.parameters() if p.requires_grad]
    one, other = ([torch.randn_like(p) for p in leaves] for _ in range(2))

    def along(directions: list[Tensor]) -> list[Tensor]:
        with sdpa_kernel(SDPBackend.MATH):
            return curvature(run(model, inputs), leaves, directions)

    found = along(one)
    with record_attention(model, gradients=True):
        literal = curvature(run(model, inputs), leaves, one)
    for a, b in zip(found, literal, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)
    there = sum((a * b).sum() for a, b in zip(found, other, strict=True))
    back = sum((a * b).sum() for a, b in zip(along(other), one, strict=True))
    torch.testing.assert_close(there, back)  # mixed derivatives are the same in either order
    assert there.abs() > 0


@every_family
def test_every_family_of_images_has_forward_mode_by_the_math_kernel(name):
    model, (x, *rest) = randomised(MODELS[name]).double(), MODELS[name].inputs()
    if rest or not x.is_floating_point():
        pytest.skip("words have no direction to go")
    x, direction = x.double(), torch.randn(x.shape, dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        out, forward = torch.func.jvp(lambda z: run(model, (z,)), (x,), (direction,))
    leaf = x.clone().requires_grad_()
    readout = torch.randn_like(out)
    (backward,) = torch.autograd.grad(run(model, (leaf,)), leaf, readout)
    torch.testing.assert_close((forward * readout).sum(), (backward * direction).sum())


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what the kernel of the CPU has")
def test_the_fused_kernel_says_what_it_lacks():
    q, k, v = torch.randn(3, 2, 4, 5, 7, requires_grad=True)
    (first,) = torch.autograd.grad(attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="is not implemented"):
        torch.autograd.grad(first.square().sum(), q)
