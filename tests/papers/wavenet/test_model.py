"""WaveNet: causal and dilated convolutions, gates, connections, and generation with a cache."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.inspect import count_macs, count_parameters
from attention_notes.papers.wavenet import (
    CausalConvolution,
    Layer,
    Stack,
    WaveNet,
    decode,
    doubling,
    draw,
    encode,
)
from attention_notes.papers.why_attention import dependence, receptive_field, theoretical_receptive_field

BATCH, N, DIM, SKIP, VOCABULARY, CONDITION = 2, 13, 5, 7, 11, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def close(a, b):
    tolerance = 1e-10 if a.dtype == torch.float64 else 1e-5
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def features(dtype=torch.float64, *, n=N, dim=DIM):
    return torch.randn(BATCH, n, dim, dtype=dtype)


def network(dtype=torch.float64, **options):
    sizes = {"dim": DIM, "skip": SKIP, "dilations": (1, 2, 4), **options}
    return WaveNet(VOCABULARY, **sizes).to(dtype)


def text(n=N):
    return torch.randint(VOCABULARY, (BATCH, n))


def same_gradients(ours, theirs, inputs):
    """Two outputs agree, and so do their gradients with respect to the same inputs."""
    probe = torch.randn_like(ours)
    a, b = (torch.autograd.grad((out * probe).sum(), inputs, retain_graph=True) for out in (ours, theirs))
    return close(ours, theirs) and all(close(p, q) for p, q in zip(a, b, strict=True))


def literal_convolution(weight, bias, x, dilation):
    """The sum over taps, position by position."""
    batch, n, _ = x.shape
    taps = weight.shape[-1]
    rows = []
    for b in range(batch):
        for t in range(n):
            total = bias
            for i in range(taps):
                if (before := t - (taps - 1 - i) * dilation) >= 0:
                    total = total + weight[:, :, i] @ x[b, before]
            rows.append(total)
    return torch.stack(rows).unflatten(0, (batch, n))


# one convolution


@DTYPES
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (2, 4), (3, 2), (4, 20)])
def test_a_causal_convolution_equals_loops_and_pytorchs_cut_at_its_end(dtype, kernel, dilation):
    layer = CausalConvolution(DIM, out=SKIP, kernel=kernel, dilation=dilation).to(dtype)
    x = features(dtype).requires_grad_()
    inputs = [x, layer.weight, layer.bias]
    assert same_gradients(layer(x), literal_convolution(layer.weight, layer.bias, x, dilation), inputs)
    padding = (kernel - 1) * dilation
    theirs = nn.Conv1d(DIM, SKIP, kernel, dilation=dilation, padding=padding).to(dtype)
    theirs.load_state_dict(layer.state_dict())
    assert close(layer(x), theirs(x.mT)[..., :N].mT)
    cut = F.conv1d(x.mT, layer.weight, layer.bias, dilation=dilation, padding=padding)[..., :N].mT
    assert same_gradients(layer(x), cut, inputs)


def test_what_comes_later_changes_nothing_before():
    layer, x = CausalConvolution(DIM, out=SKIP, kernel=3, dilation=2).double(), features()
    other = x.clone()
    other[:, 6:] = features()[:, 6:]
    assert torch.equal(layer(other)[:, :6], layer(x)[:, :6])
    assert not close(layer(other)[:, 6], layer(x)[:, 6])


def test_with_one_tap_it_is_a_linear_map_of_each_position():
    layer, x = CausalConvolution(DIM, out=SKIP, kernel=1, dilation=9).double(), features()
    assert close(layer(x), F.linear(x, layer.weight[..., 0], layer.bias))


def test_sums_by_hand():
    """Weights of one: each layer adds what lies its dilation back, so three layers sum eight numbers."""
    x = torch.arange(1.0, 9.0).reshape(1, 8, 1)
    for dilation, expected in (1, [1, 3, 5, 7, 9, 11, 13, 15]), (2, [1, 3, 6, 10, 14, 18, 22, 26]), (4, None):
        layer = CausalConvolution(1, out=1, kernel=2, dilation=dilation)
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        x = layer(x)
        assert x.flatten().tolist() == (expected or [1, 3, 6, 10, 15, 21, 28, 36])


@DTYPES
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 3), (2, 1), (2, 4), (3, 2), (4, 20)])
def test_a_convolution_step_by_step_is_the_whole(dtype, kernel, dilation):
    layer, x = CausalConvolution(DIM, out=SKIP, kernel=kernel, dilation=dilation).to(dtype), features(dtype)
    queue = layer.queue(BATCH)
    steps = [layer.step(x[:, t : t + 1], queue) for t in range(N)]
    assert close(torch.cat(steps, 1), layer(x))
    assert len(queue) == (kernel - 1) * dilation


# receptive fields


def linear(dilations, *, kernel=2):
    """Convolutions of one channel whose weights are one: derivatives count the paths."""
    stack = nn.Sequential(*(CausalConvolution(1, out=1, kernel=kernel, dilation=d) for d in dilations)).double()
    for layer in stack:
        nn.init.ones_(layer.weight)
    return stack


def paths(dilations, *, kernel=2):
    span = theoretical_receptive_field([kernel] * len(dilations), dilations=dilations)
    return receptive_field(linear(dilations, kernel=kernel), features(n=span, dim=1)[:1], position=-1)


def test_four_layers_of_figure_2_see_five_inputs_and_those_of_figure_3_sixteen():
    assert (paths([1] * 4) > 0).sum() == 5
    assert (paths([1, 2, 4, 8]) > 0).sum() == 16


def test_a_block_of_ten_layers_sees_1024_inputs_each_on_one_path():
    assert torch.equal(paths(doubling(512)), torch.ones(1024).double())


def test_undilated_layers_reach_their_inputs_on_binomially_many_paths():
    expected = [math.comb(7, i) for i in range(8)]
    assert close(paths([1] * 7), torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("dilations", "seen", "span"), [((4, 4, 4), 7, 25), ((2, 4, 8), 15, 29), ((1, 3, 9), 27, 27), ((9, 1, 3), 27, 27)]
)
def test_different_dilations_leave_gaps_unless_they_begin_at_one_and_fit(dilations, seen, span):
    field = paths(dilations, kernel=3)
    assert ((field > 0).sum(), len(field)) == (seen, span)


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_receptive_field_of_the_network_is_what_derivatives_find(kernel):
    model = network(kernel=kernel)
    size = model.receptive_field
    assert size == 1 + (kernel - 1) * (1 + 7)
    one_hot = torch.randn(1, size + 4, VOCABULARY).double()
    field = receptive_field(lambda x: model.head(model.stack(model.first(x))), one_hot, position=-1)
    assert torch.equal(field > 0, torch.arange(size + 4) >= 4)


def test_nothing_looks_ahead():
    stack = Stack(DIM, skip=SKIP, dilations=(2, 1, 4), kernel=3).double()
    assert not dependence(stack, features()).triu(1).any()


# gates and connections


@DTYPES
@pytest.mark.parametrize("local", [None, False, True])
def test_outputs_and_gradients_equal_the_equations_written_as_loops(dtype, local):
    """Position by position, layer by layer; with no condition, one for all positions, and one for each."""
    model = network(dtype, kernel=3, dilations=(1, 2), condition=None if local is None else CONDITION)
    tokens = text()
    h = None if local is None else torch.randn(BATCH, *([N] if local else []), CONDITION, dtype=dtype)
    one_hot = torch.eye(VOCABULARY, dtype=dtype)[tokens]
    x = literal_convolution(model.first.weight, model.first.bias, one_hot, 1)
    total = 0
    for layer, dilation in zip(model.stack.layers, (1, 2), strict=True):
        (w_f, w_g), (b_f, b_g) = layer.convolution.weight.chunk(2), layer.convolution.bias.chunk(2)
        filtered, gate = (literal_convolution(w, b, x, dilation) for w, b in ((w_f, b_f), (w_g, b_g)))
        if h is not None:
            v_f, v_g = layer.condition.weight.chunk(2)
            each = h if local else h[:, None].expand(-1, N, -1)
            filtered, gate = filtered + each @ v_f.T, gate + each @ v_g.T
        z = torch.tanh(filtered) / (1 + torch.exp(-gate))
        total = total + z @ layer.skip.weight.T + layer.skip.bias
        if layer.residual is not None:
            x = x + z @ layer.residual.weight.T + layer.residual.bias
    first, second = model.head[1], model.head[3]
    hidden = total.clamp(min=0) @ first.weight.T + first.bias
    expected = hidden.clamp(min=0) @ second.weight.T + second.bias
    assert same_gradients(model(tokens, h), expected, [*model.parameters()])


def test_a_closed_gate_leaves_the_stream_as_it_is_but_for_biases():
    layer, x = Layer(DIM, skip=SKIP, kernel=2, dilation=2).double(), features()
    with torch.no_grad():
        layer.convolution.weight[DIM:] = 0
        layer.convolution.bias[DIM:] = -1e9
    stream, skip = layer(x)
    assert close(stream, x + layer.residual.bias)
    assert close(skip, layer.skip.bias.expand_as(skip))


def test_with_one_map_for_both_connections_the_skips_sum_to_what_the_stream_gained():
    stack, x = Stack(DIM, skip=DIM, dilations=(1, 2, 4)).double(), features()
    stream = x
    for layer in stack.layers:
        if layer.residual is not None:
            layer.skip.load_state_dict(layer.residual.state_dict())
        stream, skip = layer(stream)
    assert close(stack(x), stream + skip - x)


def test_a_global_condition_is_a_local_one_that_stays():
    model, tokens, h = network(condition=CONDITION), text(), torch.randn(BATCH, CONDITION).double()
    assert close(model(tokens, h), model(tokens, h[:, None].expand(-1, N, -1)))
    assert not close(model(tokens, h), model(tokens, h + 1))


def test_the_last_layer_has_no_map_that_nothing_reads():
    residuals = [layer.residual for layer in network().stack.layers]
    assert [residual is None for residual in residuals] == [False, False, True]


def test_parameters_follow_from_the_equations():
    v, c, s, k, layers = VOCABULARY, DIM, SKIP, 3, 4
    of_layers = layers * (2 * k * c * c + 2 * c + c * s + s) + (layers - 1) * (c * c + c)
    expected = k * v * c + c + of_layers + s * s + s + s * v + v
    assert count_parameters(network(kernel=3, dilations=(1, 2, 4, 8))) == expected
    assert count_parameters(network(kernel=3, dilations=(1, 20, 400, 8000))) == expected


# at once, and one by one


@DTYPES
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("local", [None, False, True])
def test_token_by_token_with_a_cache_the_network_gives_what_it_gives_at_once(dtype, kernel, local):
    model = network(dtype, kernel=kernel, condition=None if local is None else CONDITION)
    tokens, queues = text(), model.queues(BATCH)
    h = None if local is None else torch.randn(BATCH, *([N] if local else []), CONDITION, dtype=dtype)
    steps = [model.step(tokens[:, t : t + 1], queues, h[:, t : t + 1] if local else h) for t in range(N)]
    assert close(torch.cat(steps, 1), model(tokens, h))


def test_all_positions_at_once_predict_what_each_prefix_predicts():
    model, tokens = network(), text()
    prefixes = torch.cat([model(tokens[:, : t + 1])[:, -1:] for t in range(N)], 1)
    assert close(model(tokens), prefixes)


def test_only_the_receptive_field_is_needed():
    model, tokens = network(), text(n=29)
    size = model.receptive_field
    assert size == 9
    assert close(model(tokens[:, -size:])[:, -1], model(tokens)[:, -1])


def test_a_step_costs_one_position_whatever_the_dilations():
    model = network(dilations=doubling(64))
    whole = count_macs(model, text(n=200))
    step = count_macs(lambda tokens: model.step(tokens, model.queues(BATCH)), text(n=1))
    assert whole == 200 * step


def test_greedy_generation_equals_recomputing_everything_for_each_token():
    model, whole = network(), text(n=3)
    new = model.generate(whole, length=20, choose=lambda logits: logits.argmax(-1))
    for _ in range(20):
        whole = torch.cat([whole, model(whole)[:, -1].argmax(-1)[:, None]], 1)
    assert torch.equal(new, whole[:, 3:])


def test_generation_follows_a_condition():
    model, h = network(condition=CONDITION), torch.randn(BATCH, 3 + 20 - 1, CONDITION).double()
    whole = text(n=3)
    new = model.generate(whole, length=20, h=h, choose=lambda logits: logits.argmax(-1))
    for _ in range(20):
        following = model(whole, h[:, : whole.shape[1]])[:, -1].argmax(-1)
        whole = torch.cat([whole, following[:, None]], 1)
    assert torch.equal(new, whole[:, 3:])


def test_tokens_are_drawn_as_often_as_they_are_likely():
    shares = torch.tensor([0.1, 0.2, 0.7])
    drawn = draw(shares.log().expand(20_000, 3)).bincount() / 20_000
    assert (drawn - shares).abs().max() < 0.02


# tokens of a signal


def test_companding_keeps_its_order_and_its_ends():
    signal = torch.linspace(-1, 1, 100_001)
    tokens = encode(signal)
    assert (tokens.diff() >= 0).all()
    assert tokens.unique().tolist() == [*range(256)]
    assert encode(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]


def test_every_token_is_encoded_as_itself():
    tokens = torch.arange(256)
    assert torch.equal(encode(decode(tokens)), tokens)
    assert decode(tokens[[0, 255]]).tolist() == pytest.approx([-1, 1])


def test_steps_are_256_times_finer_for_the_quiet_than_for_the_loud():
    """The derivative of f is μ / ((1 + μ |x|) ln(1 + μ))."""
    steps = decode(torch.arange(256)).diff()
    assert (steps[-1] / steps[127]).item() == pytest.approx(256, rel=0.05)


def test_a_quiet_signal_survives_better_than_with_equal_steps():
    quiet = 0.01 * torch.randn(1000)
    equal = ((quiet + 1) / 2 * 255).round() / 255 * 2 - 1
    assert (decode(encode(quiet)) - quiet).norm() < 0.2 * (equal - quiet).norm()


def test_dilations_double_to_the_limit_and_begin_again():
    assert doubling(8) == (1, 2, 4, 8)
    assert doubling(4, blocks=2) == (1, 2, 4, 1, 2, 4)
    assert sum(doubling(512, blocks=3)) == 3 * 1023


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="kernel=0 and dilation=1: both are 1 or more"):
        CausalConvolution(DIM, out=DIM, kernel=0)
    with pytest.raises(ValueError, match="limit=12, blocks=1: give a power of two"):
        doubling(12)
    with pytest.raises(ValueError, match="no dilations, no layers"):
        Stack(DIM, skip=DIM, dilations=())
    with pytest.raises(ValueError, match=r"tokens of shape \(13,\).*give it tokens\[None\]"):
        network()(text()[0])
    with pytest.raises(ValueError, match="the layer was built for no condition, but h is given"):
        network()(text(), torch.randn(BATCH, CONDITION).double())
    with pytest.raises(ValueError, match="built for condition=3, but h is missing"):
        network(condition=CONDITION)(text())
    with pytest.raises(ValueError, match="0 tokens to begin with and length=5"):
        network().generate(text(n=0), length=5)
    with pytest.raises(ValueError, match=r"conditions for 4 positions, but 13 \+ 5 - 1 are needed"):
        network(condition=CONDITION).generate(text(), length=5, h=torch.randn(BATCH, 4, CONDITION).double())
