"""Residual networks: torchvision's counts, outputs and gradients, and the seams that blocks are put into."""

import pytest
import torch
from torch import nn

from attention_notes.inspect import count_macs, count_parameters
from attention_notes.papers.resnet import VARIANTS, bottleneck, resnet

# torchvision's table of weights; parameters, GMACs
PUBLISHED = {
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
}


def renamed(ours, theirs):
    """The state of torchvision's model under our names, by the order in which both define their tensors."""
    entries = dict(zip(sorted(ours.state_dict(), key=place), theirs.state_dict().values(), strict=True))
    return {name: value.clone() for name, value in entries.items()}


def place(name):
    """Where a tensor stands in torchvision's order: stem, stages block by block, the shortcut last, head."""
    room, *rest = name.split(".")
    if room == "stages":
        stage, block, part, *tail = rest
        where = (1, int(stage), int(block), part == "shortcut", int(tail[0]) if part == "branch" else 0)
        rest = tail[1:] if part == "branch" else tail
    else:
        where = ({"stem": 0, "head": 2}[room],)
    layer = rest[-2] if len(rest) > 1 else ""
    return (*where, int(layer) if layer.isdigit() else 0, ORDER.index(rest[-1]))


ORDER = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_parameters_and_the_cost_of_torchvisions(variant):
    with torch.device("meta"):
        model, image = resnet(variant), torch.empty(1, 3, 224, 224)
    parameters, gmacs = PUBLISHED[variant]
    assert count_parameters(model) == parameters
    assert round(count_macs(model.eval(), image) / 1e9, 2) == pytest.approx(gmacs, abs=0.011)


@pytest.mark.parametrize(("variant", "dilations"), [("resnet18", (1, 1, 1, 1)), ("resnet50", (1, 1, 2, 4))])
def test_outputs_and_gradients_equal_those_of_torchvision(variant, dilations):
    from torchvision.models import resnet as reference

    dilated = {} if max(dilations) == 1 else {"replace_stride_with_dilation": [d > 1 for d in dilations[1:]]}
    theirs = getattr(reference, variant)(num_classes=7, **dilated).double().eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand_like(tensor) * 0.3)
    ours = resnet(variant, num_classes=7, dilations=dilations).double().eval()
    ours.load_state_dict(renamed(ours, theirs))
    a = torch.randn(2, 3, 40, 72, dtype=torch.float64)
    b = a.clone()
    a.requires_grad_(), b.requires_grad_()
    one, other = ours(a), theirs(b)
    torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    one.square().sum().backward()
    other.square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-10, rtol=1e-10)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    named = dict(zip(sorted(ours.state_dict(), key=place), theirs.state_dict(), strict=True))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[named[name]], atol=1e-9, rtol=1e-9)


def test_maps_come_at_strides_4_8_16_32_also_of_an_image_that_is_not_square():
    model = resnet("resnet18", width=6).eval()
    maps = model.features(torch.randn(2, 3, 64, 160))
    assert [m.shape for m in maps] == [(2, 6, 16, 40), (2, 12, 8, 20), (2, 24, 4, 10), (2, 48, 2, 5)]
    assert model.widths == [m.shape[1] for m in maps]


def test_a_dilated_stage_keeps_the_size_and_the_parameters():
    dilated, plain = resnet("resnet18", width=6, dilations=(1, 1, 2, 4)).eval(), resnet("resnet18", width=6)
    assert [m.shape[-1] for m in dilated.features(torch.randn(1, 3, 64, 96))] == [24, 12, 12, 12]
    assert count_parameters(dilated) == count_parameters(plain)


def test_a_module_at_the_end_of_every_branch_acts_before_the_sum():
    class Zero(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.channels = channels

        def forward(self, x):
            assert x.shape[1] == self.channels
            return 0 * x

    block = bottleneck(20, 5, stride=1, dilation=1, branch=Zero).eval()
    x = torch.randn(2, 20, 7, 11)
    assert torch.equal(block(x), x.relu())


def test_a_module_can_be_put_into_a_stage():
    model = resnet("resnet18", width=6, num_classes=5).eval()
    x = torch.randn(2, 3, 32, 64)
    before = model(x)
    model.stages[2].insert(1, nn.Identity())
    assert torch.equal(model(x), before)
    assert len(model.stages[2]) == 3


def test_an_unknown_variant_names_the_known():
    with pytest.raises(ValueError, match=r"unknown variant 'resnet49'; known: resnet18, .*resnet152"):
        resnet("resnet49")
