"""CBAM: the equations place by place, the two classic bugs, the parameters of the paper's table."""

from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.claims import load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.papers.cbam import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcitation,
    average,
    cbam,
    channel_first,
    initialise,
    maximum,
    parallel,
    spatial_first,
)
from attention_notes.papers.resnet import ResNet, basic, resnet

BATCH, CHANNELS, Y, X = 2, 11, 5, 7
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
# parameters; GMACs of ours, stride on the 3 x 3 convolution
COUNTS = {v: (line["parameters"], line["gmacs"]) for v, line in load_facts("cbam")["variants"].items()}


def block(**options):
    """A block in evaluation mode whose norm does something."""
    made = CBAM(CHANNELS, channel=partial(ChannelAttention, reduction=3), **options).eval()
    with torch.no_grad():
        for tensor in made.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.3)
    return made


def close(a, b):
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def literal_channel(module, x):
    """Equation 2 with a loop over images, channels and hidden units."""
    first, second = module.mlp[0], module.mlp[2]
    gates = torch.empty(*x.shape[:2], 1, 1, dtype=x.dtype)
    for b in range(x.shape[0]):
        total = torch.zeros(x.shape[1], dtype=x.dtype)
        for summary in (
            [sum(pixel for row in plane for pixel in row) / plane.numel() for plane in x[b]],
            [max(pixel for row in plane for pixel in row) for plane in x[b]],
        ):
            hidden = []
            for unit in range(first.out_features):
                score = first.bias[unit] + sum(w * s for w, s in zip(first.weight[unit], summary, strict=True))
                hidden.append(score if score > 0 else 0 * score)
            for c in range(x.shape[1]):
                total[c] = total[c] + second.bias[c]
                for w, h in zip(second.weight[c], hidden, strict=True):
                    total[c] = total[c] + w * h
        gates[b, :, 0, 0] = 1 / (1 + torch.exp(-total))
    return gates


def literal_spatial(module, x):
    """Equation 3 with a loop over images, places and the places around them."""
    (_, channels, height, width), kernel = x.shape, module.convolution.kernel_size[0]
    norm, reach = module.norm, kernel // 2
    gates = torch.empty(x.shape[0], 1, height, width, dtype=x.dtype)
    for b in range(x.shape[0]):
        for i in range(height):
            for j in range(width):
                total = torch.zeros((), dtype=x.dtype)
                for di in range(-reach, reach + 1):
                    for dj in range(-reach, reach + 1):
                        if 0 <= i + di < height and 0 <= j + dj < width:
                            column = x[b, :, i + di, j + dj]
                            weights = module.convolution.weight[0, :, di + reach, dj + reach]
                            total = total + weights[0] * sum(column) / channels + weights[1] * max(column)
                scaled = (total - norm.running_mean[0]) / (norm.running_var[0] + norm.eps) ** 0.5
                gates[b, 0, i, j] = 1 / (1 + torch.exp(-(scaled * norm.weight[0] + norm.bias[0])))
    return gates


@DTYPES
def test_outputs_and_gradients_equal_the_equations_written_as_loops(dtype):
    made = block(spatial=partial(SpatialAttention, kernel=3)).to(dtype)
    x = torch.randn(BATCH, CHANNELS, Y, X, dtype=dtype)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    refined = literal_channel(made.channel, b) * b
    expected = literal_spatial(made.spatial, refined) * refined
    assert close(made(a), expected)
    probe = torch.randn_like(x)
    theirs = torch.autograd.grad((expected * probe).sum(), [b, *made.parameters()])
    ours = torch.autograd.grad((made(a) * probe).sum(), [a, *made.parameters()])
    assert all(close(p, q) for p, q in zip(ours, theirs, strict=True))


def test_gates_equal_those_of_timm_but_for_its_missing_biases_and_its_order_of_maps():
    from timm.layers.cbam import CbamModule

    theirs, ours = CbamModule(CHANNELS, rd_channels=3).eval(), block()
    for i, name in ((0, "fc1"), (2, "fc2")):
        ours.channel.mlp[i].bias.data.zero_()
        getattr(theirs.channel, name).weight.data.copy_(ours.channel.mlp[i].weight[..., None, None])
    theirs.spatial.conv.conv.weight.data.copy_(ours.spatial.convolution.weight)
    theirs.spatial.conv.bn.load_state_dict(ours.spatial.norm.state_dict())
    x = torch.randn(BATCH, CHANNELS, Y, X)
    assert close(ours.channel(x) * x, theirs.channel(x))
    assert close(ours.spatial(x) * x, theirs.spatial(x))
    assert close(ours(x), theirs(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_its_parameters_and_cost(variant):
    with torch.device("meta"):
        model = cbam(variant).eval()
    parameters, gmacs = COUNTS[variant]
    assert count_parameters(model) == parameters
    assert round(count_macs(model, torch.empty(1, 3, 224, 224, device="meta")) / 1e9, 2) == gmacs


def test_the_parameters_follow_from_the_equations():
    with torch.device("meta"):
        plain, refined = resnet("resnet50"), cbam("cbam_resnet50")
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    each = [2 * c * (c // 16) + c // 16 + c + 2 * 7 * 7 + 2 for c in widths]
    assert count_parameters(refined) - count_parameters(plain) == sum(each)


def test_the_maximum_of_one_bright_place_reaches_the_gate_and_its_average_hardly_does():
    """A block that averages twice passes every shape test, and fails this one."""
    dark = torch.zeros(1, CHANNELS, 32, 32)
    bright = dark.clone()
    bright[0, 3, 17, 5] = 1.0
    both, twice = (block().channel for _ in range(2))
    both.mlp[0].weight.data.abs_()
    both.mlp[0].bias.data.abs_()  # no hidden unit is asleep
    twice.load_state_dict(both.state_dict())
    twice.pools = (average, average)
    moved = [(gate(bright) - gate(dark)).abs().max().item() for gate in (both, twice)]
    assert moved[0] > 100 * moved[1] > 0


def test_the_two_maps_of_a_place_are_its_mean_and_its_largest_not_one_of_them_twice():
    x = torch.tensor([1.0, 2.0, 9.0]).reshape(1, 3, 1, 1)
    assert average(x, (1,)).item() == 4
    assert maximum(x, (1,)).item() == 9
    gate = SpatialAttention(kernel=1).eval()
    gate.convolution.weight.data = torch.tensor([1.0, -0.5]).reshape(1, 2, 1, 1)
    assert gate(x).item() == pytest.approx(torch.tensor(-0.5 / (1 + 1e-5) ** 0.5).sigmoid().item())


def test_a_map_is_multiplied_by_its_gate_not_added_to_itself():
    made = block()
    x = torch.randn(BATCH, CHANNELS, Y, X)
    assert (made(x).abs() < x.abs()).all()
    assert torch.equal(made(x).sign(), x.sign())
    assert not made(torch.zeros_like(x)).any()


def test_one_perceptron_serves_both_poolings():
    made = block().channel
    flat = torch.randn(BATCH, CHANNELS, 1, 1).expand(-1, -1, Y, X)  # its average is its maximum
    once = made.mlp(flat[..., 0, 0])
    assert close(made(flat), (2 * once).sigmoid()[..., None, None])


def test_channel_gates_do_not_know_where():
    made, x = block().channel, torch.randn(BATCH, CHANNELS, Y, X)
    shuffled = x.flatten(2)[..., torch.randperm(Y * X)].unflatten(2, (Y, X))
    assert close(made(shuffled), made(x))


def test_spatial_gates_do_not_know_which_channel_and_move_with_the_map():
    made, x = block().spatial, torch.randn(BATCH, CHANNELS, 23, 29)
    assert close(made(x[:, torch.randperm(CHANNELS)]), made(x))
    moved = made(x.roll((2, 3), (-2, -1)))
    assert close(moved[..., 5:-3, 6:-3], made(x)[..., 3:-5, 3:-6])


def test_orders_differ_and_agree_where_one_gate_is_open():
    x = torch.randn(BATCH, CHANNELS, Y, X)
    made = block()
    outs = [order(x, made.channel, made.spatial) for order in (channel_first, spatial_first, parallel)]
    assert not any(close(a, b) for a, b in zip(outs, outs[1:] + outs[:1], strict=True))
    outs = [order(x, made.channel, torch.ones_like) for order in (channel_first, spatial_first, parallel)]
    assert all(close(out, outs[0]) for out in outs)


def test_squeeze_and_excitation_is_the_average_alone():
    squeeze, x = SqueezeExcitation(32, reduction=4), torch.randn(BATCH, 32, Y, X)
    assert close(squeeze(x), x * squeeze.mlp(x.mean((-2, -1))).sigmoid()[..., None, None])


def test_the_block_stands_before_the_sum():
    class Closed(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return torch.zeros_like(x)

    model = cbam("cbam_resnet18", block=Closed, width=6, num_classes=5).eval()
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(model.stages[0](x), x.relu())


def uniform(weight):
    """Whether a weight looks drawn evenly between plus and minus the root of one over its fan in."""
    bound = weight[0].numel() ** -0.5
    return 0.9 * bound < weight.abs().max() < bound and weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def spread(weight, fan):
    """Whether a weight looks normal, with a deviation of the root of two over ``fan``."""
    deviation = (2 / fan) ** 0.5
    return weight.std().item() == pytest.approx(deviation, rel=0.1) and weight.abs().max() > 2.2 * deviation


def test_a_network_starts_as_the_authors_network_starts():
    """What their loop over the parameters leaves zero, one, drawn evenly and drawn normally."""
    torch.manual_seed(0)
    model = cbam("cbam_resnet18")
    blocks = [block for stage in model.stages for block in stage]
    assert len(blocks) == 8
    for block in blocks:
        channel, spatial = block.end.channel, block.end.spatial
        assert uniform(channel.mlp[0].weight)
        assert uniform(channel.mlp[2].weight)
        assert not any(layer.bias.any() for layer in (channel.mlp[0], channel.mlp[2]))
        assert spatial.norm.momentum == 0.01
        for convolution, norm in block.branch[::2]:
            assert spread(convolution.weight, 9 * convolution.out_channels)
            assert (norm.weight == 1).all()
            assert not norm.bias.any()
    assert spread(torch.cat([block.end.spatial.convolution.weight for block in blocks]), 7 * 7)
    assert not any(block.end.spatial.norm.weight.any() or block.end.spatial.norm.bias.any() for block in blocks)
    shortcuts = [block.shortcut for block in blocks if isinstance(block.shortcut, nn.Sequential)]
    assert len(shortcuts) == 3
    assert all(uniform(convolution.weight) and (norm.weight == 1).all() for convolution, norm in shortcuts)
    assert spread(model.head.weight, 512)
    assert not model.head.bias.any()


@pytest.mark.parametrize("training", [True, False])
def test_at_birth_spatial_gates_are_one_half_and_channel_gates_lie_around_it(training):
    torch.manual_seed(0)
    model = cbam("cbam_resnet18", num_classes=None).train(training)
    gates = {"channel": [], "spatial": []}
    for block in (block for stage in model.stages for block in stage):
        for name, seen in gates.items():
            getattr(block.end, name).register_forward_hook(lambda _, __, gate, seen=seen: seen.append(gate.flatten()))
    model(torch.rand(3, 3, 64, 64))
    assert (torch.cat(gates["spatial"]) == 0.5).all()
    channel = torch.cat(gates["channel"])
    assert channel.mean().item() == pytest.approx(0.5, abs=0.1)
    assert channel.std() < 0.2


def test_at_birth_the_weight_of_the_norm_alone_can_open_a_spatial_gate():
    model = cbam("cbam_resnet18", width=16, num_classes=5)
    model(torch.rand(3, 3, 64, 64)).square().sum().backward()
    spatial = model.stages[0][0].end.spatial
    assert spatial.norm.weight.grad.any()
    assert not spatial.convolution.weight.grad.any()


def test_the_start_is_that_of_a_foreign_network_with_blocks_too():
    made = ResNet(basic, depths=(1,), dilations=(1,), width=16, num_classes=None, branch=SqueezeExcitation)
    assert made.stages[0][0].end.mlp[0].bias.any()
    assert initialise(made) is made
    assert not made.stages[0][0].end.mlp[0].bias.any()


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="channels=11 leave no hidden unit at reduction=16"):
        CBAM(11)
    with pytest.raises(ValueError, match="kernel=4 is even: its middle is between two places; choose 5"):
        SpatialAttention(kernel=4)
    with pytest.raises(ValueError, match=r"unknown variant 'resnet50'; known: cbam_resnet18, .*"):
        cbam("resnet50")
