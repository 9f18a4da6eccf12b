"""The norms against PyTorch's own, against hand and loop computations of the papers' algorithms, and in place."""

import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.claims import close
from attention_notes.papers.layer_norm import (
    BatchNorm,
    LayerNorm,
    PowerNorm,
    RMSNorm,
    start_as_analysed,
    with_norm,
)
from attention_notes.papers.transformer import Encoder, PostNorm, PreNorm
from attention_notes.papers.vit import vit

BATCH, TOKENS, WIDTH = 3, 5, 7
EPS = 1e-5
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
NORMS = pytest.mark.parametrize("norm", [LayerNorm, RMSNorm, BatchNorm, PowerNorm])


def randomised(norm, dtype=torch.float32):
    for parameter in norm.parameters():
        nn.init.normal_(parameter, mean=0.7, std=0.3)
    return norm.to(dtype)


def tokens(*shape, dtype=torch.float32):
    """Neither centred nor of one scale: a norm that forgets its mean or its variance cannot pass."""
    x = 1.3 + torch.randn(*(shape or (BATCH, TOKENS)), WIDTH, dtype=dtype) * torch.linspace(0.3, 4, WIDTH, dtype=dtype)
    return x.requires_grad_()


def both(ours, theirs, dtype, view=lambda x: x):
    """Outputs, and gradients with respect to input and parameters, of two norms with the same parameters."""
    theirs.load_state_dict({k: v for k, v in ours.state_dict().items() if k in dict(theirs.named_parameters())}, False)
    x = tokens(dtype=dtype)
    upstream = torch.randn(BATCH, TOKENS, WIDTH, dtype=dtype)
    outs = ours(x), view(theirs(view(x)))
    grads = [
        torch.autograd.grad((out * upstream).sum(), [x, *m.parameters()])
        for out, m in zip(outs, (ours, theirs), strict=True)
    ]
    assert close(*outs)
    assert len(grads[0]) == len(grads[1])
    for a, b in zip(*grads, strict=True):
        assert close(a, b)


@DTYPES
def test_layer_norm_equals_pytorchs(dtype):
    both(randomised(LayerNorm(WIDTH), dtype), nn.LayerNorm(WIDTH, dtype=dtype), dtype)


@DTYPES
def test_rms_norm_equals_pytorchs(dtype):
    both(randomised(RMSNorm(WIDTH), dtype), nn.RMSNorm(WIDTH, eps=EPS, dtype=dtype), dtype)


@DTYPES
def test_batch_norm_equals_pytorchs_in_training_and_in_evaluation(dtype):
    ours, theirs = randomised(BatchNorm(WIDTH), dtype), nn.BatchNorm1d(WIDTH, dtype=dtype)
    for _ in range(3):
        both(ours, theirs, dtype, view=lambda x: x.mT)
    assert close(ours.running_mean, theirs.running_mean)
    assert close(ours.running_var, theirs.running_var)
    both(ours.eval(), theirs.eval(), dtype, view=lambda x: x.mT)


def test_by_hand():
    x = torch.tensor([[3.0, 5.0], [1.0, -1.0]])
    assert close(LayerNorm(2, eps=0)(x), torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
    assert close(RMSNorm(2, eps=0)(x), torch.tensor([[3.0, 5.0], [17**0.5, -(17**0.5)]]) / 17**0.5)
    assert close(BatchNorm(2, eps=0)(x), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    power = PowerNorm(2, warmup=math.inf, eps=0)
    assert close(power(x), torch.tensor([[3.0, 5.0], [1.0, -1.0]]) / torch.tensor([5.0, 13.0]).sqrt())


def test_layer_norm_is_blind_to_shift_and_scale_and_rms_norm_to_scale_only():
    x = tokens()
    layer, rms = LayerNorm(WIDTH, eps=0), RMSNorm(WIDTH, eps=0)
    assert close(layer(5 * x + 2), layer(x))
    assert close(rms(5 * x), rms(x))
    assert not close(rms(x + 2), rms(x))


@DTYPES
def test_rms_norm_of_centred_tokens_is_layer_norm(dtype):
    x = tokens(dtype=dtype)
    rms = randomised(RMSNorm(WIDTH), dtype)
    layer = LayerNorm(WIDTH).to(dtype)
    layer.weight.data = rms.weight.data
    assert close(rms(x - x.mean(-1, keepdim=True)), layer(x))


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_large_tokens_are_normalised_too(norm, dtype):
    """The square of 256 is too large for float16."""
    norm, x = randomised(norm(WIDTH)), 1000 * tokens().detach()
    exact = norm(x)
    rough = norm.to(dtype)(x.to(dtype))
    assert rough.dtype == dtype
    assert (rough - exact).norm() < 4 * torch.finfo(dtype).eps * exact.norm()


def reach(norm, x):
    """Which outputs move with which input, tried out: token, feature (out), token, feature (in)."""
    moved = torch.zeros(*x.shape, *x.shape, dtype=torch.bool)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y = x.clone()
            y[i, j] += 1
            moved[:, :, i, j] = deepcopy(norm)(y) != deepcopy(norm)(x)
    return moved


def test_what_an_output_depends_on():
    """Its token in layer norm and RMSNorm, its feature in batch norm and PN-V, itself alone in PN."""
    x = tokens(TOKENS).detach()
    same_token = torch.eye(TOKENS, dtype=torch.bool)[:, None, :, None].expand(TOKENS, WIDTH, TOKENS, WIDTH)
    same_feature = torch.eye(WIDTH, dtype=torch.bool)[None, :, None].expand(TOKENS, WIDTH, TOKENS, WIDTH)
    for norm, expected in [
        (LayerNorm(WIDTH), same_token),
        (RMSNorm(WIDTH), same_token),
        (BatchNorm(WIDTH), same_feature),
        (PowerNorm(WIDTH, warmup=math.inf), same_feature),
        (PowerNorm(WIDTH), same_token & same_feature),
        (BatchNorm(WIDTH).eval(), same_token & same_feature),
        (PowerNorm(WIDTH).eval(), same_token & same_feature),
    ]:
        assert torch.equal(reach(norm, x), expected), norm


def test_leading_axes_are_all_alike():
    x = tokens()
    for make in (LayerNorm, RMSNorm, BatchNorm, partial(PowerNorm, warmup=1)):
        assert close(make(WIDTH)(x), make(WIDTH)(x.flatten(0, 1)).unflatten(0, (BATCH, TOKENS)))
    assert LayerNorm(WIDTH)(x[0, 0]).shape == RMSNorm(WIDTH)(x[0, 0]).shape == (WIDTH,)


def literal_power_norm(x, g, gain, bias, state, *, alpha_forward, alpha_backward, exact):
    """Algorithms 1 and 2 in loops over tokens and features; moves ``state``, returns output and gradient."""
    n, c = x.shape
    out, grad = torch.zeros_like(x), torch.zeros_like(x)
    for j in range(c):
        batch = sum(x[i, j] ** 2 for i in range(n)) / n
        psi = ((batch if exact else state["square"][j]) + EPS) ** 0.5
        x_hat = [x[i, j] / psi for i in range(n)]
        g_hat = [gain[j] * g[i, j] for i in range(n)]
        lambda_ = sum(a * b for a, b in zip(g_hat, x_hat, strict=True)) / n
        gamma = sum(a * a for a in x_hat) / n
        for i in range(n):
            out[i, j] = gain[j] * x_hat[i] + bias[j]
            grad[i, j] = (g_hat[i] - (lambda_ if exact else state["nu"][j]) * x_hat[i]) / psi
        state["square"][j] += (1 - alpha_forward) * (batch - state["square"][j])
        state["nu"][j] = state["nu"][j] * (1 - (1 - alpha_backward) * gamma) + (1 - alpha_backward) * lambda_
    return out, grad


@pytest.mark.parametrize("warmup", [0, 2])
def test_power_norm_is_the_papers_algorithm_over_several_steps(warmup):
    norm = PowerNorm(WIDTH, alpha_forward=0.8, alpha_backward=0.7, warmup=warmup)
    norm = randomised(norm, torch.float64)
    state = {"square": torch.ones(WIDTH).double(), "nu": torch.zeros(WIDTH).double()}
    for step in range(5):
        x = tokens(11, dtype=torch.float64)
        g = torch.randn(11, WIDTH, dtype=torch.float64)
        out, grad = literal_power_norm(
            x.detach(),
            g,
            norm.weight.detach(),
            norm.bias.detach(),
            state,
            alpha_forward=0.8,
            alpha_backward=0.7,
            exact=step < warmup,
        )
        ours = norm(x)
        (ours * g).sum().backward()
        assert close(ours, out)
        assert close(x.grad, grad)
        assert close(norm.running_square, state["square"])
        assert close(norm.nu, state["nu"])
    assert close(norm.eval()(x), norm.weight * x / (state["square"] + EPS).sqrt() + norm.bias)


@DTYPES
def test_the_gradient_of_pn_v_is_the_exact_one(dtype):
    norm = randomised(PowerNorm(WIDTH, warmup=math.inf), dtype)
    x, upstream = tokens(dtype=dtype), torch.randn(BATCH, TOKENS, WIDTH, dtype=dtype)
    plain = norm.weight * x / (x.square().mean((0, 1)) + EPS).sqrt() + norm.bias
    wanted = torch.autograd.grad((plain * upstream).sum(), [x, *norm.parameters()])
    found = torch.autograd.grad((norm(x) * upstream).sum(), [x, *norm.parameters()])
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))


def test_the_gradient_of_pn_v_equals_finite_differences():
    norm = randomised(PowerNorm(WIDTH, warmup=math.inf), torch.float64)
    assert torch.autograd.gradcheck(norm, tokens(dtype=torch.float64))


def test_without_memory_a_batch_seen_three_times_makes_pn_into_pn_v():
    """The first time ψ is learned, the second time ν; the third time both are those of the batch."""
    power = PowerNorm(WIDTH, alpha_forward=0, alpha_backward=0, eps=0).double()
    exact = PowerNorm(WIDTH, warmup=math.inf, eps=0).double()
    x, upstream = tokens(dtype=torch.float64), torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64)
    seen = []
    for _ in range(3):
        out = power(x)
        seen.append((out, *torch.autograd.grad((out * upstream).sum(), x)))
    out = exact(x)
    (wanted,) = torch.autograd.grad((out * upstream).sum(), x)
    assert [bool(close(o, out)) for o, _ in seen] == [False, True, True]
    assert [bool(close(g, wanted)) for _, g in seen] == [False, False, True]


def test_a_batch_seen_for_ever_is_the_fixed_point_of_both_running_statistics():
    power = PowerNorm(WIDTH, alpha_forward=0.5, alpha_backward=0.5, eps=0).double()
    x, upstream = tokens(dtype=torch.float64), torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64)
    for _ in range(120):
        out = power(x)
        torch.autograd.grad((out * upstream).sum(), x)
    assert close(power.running_square, x.square().mean((0, 1)))
    assert close(power.nu, (out * upstream).mean((0, 1)))


def test_evaluation_changes_no_statistic_and_training_changes_all():
    for norm in (BatchNorm(WIDTH), PowerNorm(WIDTH)):
        before = deepcopy(norm.state_dict())
        norm.eval()(tokens()).sum().backward()
        assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())
        norm.train()(tokens()).square().sum().backward()
        changed = {k for k, v in norm.state_dict().items() if not torch.equal(before[k], v)}
        assert changed == before.keys() - {"weight", "bias"}


def test_the_state_of_power_norm_travels_with_its_count_of_steps():
    norm, other = PowerNorm(WIDTH, warmup=2), PowerNorm(WIDTH, warmup=2)
    for _ in range(2):
        norm(tokens()).square().sum().backward()
    other.load_state_dict(norm.state_dict())
    x = tokens()
    assert torch.equal(norm(x), other(x))
    assert not close(norm(x), PowerNorm(WIDTH, warmup=2)(x))


@NORMS
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_of_zeros_stays_finite_forwards_and_backwards(norm, training):
    norm = norm(WIDTH).train(training)
    x = torch.zeros(BATCH, TOKENS, WIDTH, requires_grad=True)
    for _ in range(3):
        norm(x).sum().backward()
    assert x.grad.isfinite().all()
    assert norm(x).isfinite().all()
    assert all(v.isfinite().all() for v in norm.state_dict().values())


def test_one_token_of_nans_spoils_itself_or_everything():
    """By token, the others stay whole. Over the batch, each feature is lost, in PN from the next step on."""
    x = tokens(TOKENS).detach()
    x[2] = math.nan
    others = torch.arange(TOKENS) != 2
    for norm in (LayerNorm, RMSNorm, PowerNorm):
        assert norm(WIDTH)(x)[others].isfinite().all()
    assert not BatchNorm(WIDTH)(x).isfinite().any()
    power = PowerNorm(WIDTH)
    power(x)
    assert not power(tokens(TOKENS)).isfinite().any()


@NORMS
def test_bfloat16_agrees(norm):
    norm = randomised(norm(WIDTH)).eval()
    x = tokens().detach()
    exact = norm(x)
    assert (norm.bfloat16()(x.bfloat16()).float() - exact).norm() < 0.02 * exact.norm()


def test_another_norm_stands_wherever_a_layer_norm_stood():
    model = vit("Ti/16", dim=14, depth=2, heads=2, hidden=11, patch=2, image_size=4, num_classes=3).double()
    before = sum(isinstance(m, nn.LayerNorm) for m in model.modules())
    assert with_norm(model, RMSNorm) is model
    found = [m for m in model.modules() if isinstance(m, RMSNorm)]
    assert len(found) == before == 5
    assert not any(isinstance(m, nn.LayerNorm) for m in model.modules())
    assert {(m.weight.dtype, len(m.weight)) for m in found} == {(torch.float64, 14)}
    assert model(torch.randn(2, 3, 4, 4).double()).shape == (2, 3)


def test_our_layer_norm_in_the_place_of_pytorchs_changes_nothing():
    encoder = Encoder(WIDTH * 2, layers=2, residual=PreNorm, heads=2, hidden=11, dropout=0.0)
    ours = with_norm(deepcopy(encoder), LayerNorm)
    x = torch.randn(BATCH, TOKENS, WIDTH * 2)
    assert close(ours(x), encoder(x))


def analysed(residual, *, layers, dim=64):
    encoder = Encoder(dim, layers=layers, residual=residual, heads=1, hidden=dim, dropout=0.0)
    return start_as_analysed(encoder)


def test_the_start_that_is_analysed_has_the_variances_of_the_paper():
    layer = analysed(PreNorm, layers=1, dim=97).layers[0]
    for weight in (layer.attention.value.weight, layer.mlp.expand.weight, layer.mlp.contract.weight):
        assert weight.std().item() == pytest.approx(97**-0.5, rel=0.03)
    assert not layer.attention.query.weight.any()
    assert not layer.mlp.expand.bias.any()
    x = torch.randn(2, 5, 97)
    assert close(layer.attention(x), layer.attention.value(x).mean(1, keepdim=True).expand_as(x))


def test_the_stream_grows_as_lemma_2_says_in_pre_norm_and_not_in_post_norm():
    x = torch.randn(4, 13, 128)
    for residual, layers in ((PreNorm, 8), (PostNorm, 8)):
        encoder, z = analysed(residual, layers=layers, dim=128), x
        for index, layer in enumerate(encoder.layers, start=1):
            z = layer(z)
            size = z.square().mean().item()
            if residual is PreNorm:
                assert 0.9 * (1 + index / 2) < size < 1.1 * (1 + 3 * index / 2)
            else:
                assert size == pytest.approx(1, abs=1e-3)


def test_power_norm_and_batch_norm_fold_into_the_map_that_follows():
    for norm in (randomised(PowerNorm(WIDTH)), randomised(BatchNorm(WIDTH))):
        for _ in range(3):
            norm(tokens()).square().sum().backward()
        norm.eval()
        linear, x = nn.Linear(WIDTH, 11), tokens().detach()
        wanted = linear(norm(x))
        power = isinstance(norm, PowerNorm)
        spread = norm.running_square if power else norm.running_var
        scale = norm.weight.data / (spread + norm.eps).sqrt()
        shift = norm.bias.data - (0 if power else norm.running_mean * scale)
        linear.bias.data += linear.weight.data @ shift
        linear.weight.data *= scale
        assert close(linear(x), wanted)


def test_a_pre_norm_stack_with_layer_norm_is_one_with_rms_norm_whose_writes_are_centred():
    encoder = Encoder(26, layers=3, residual=PreNorm, heads=2, hidden=11, dropout=0.0, bias=True).double()
    gains = [m.weight for m in encoder.modules() if isinstance(m, nn.LayerNorm)]
    for gain in gains:
        nn.init.normal_(gain, mean=0.7)
    x = torch.randn(BATCH, TOKENS, 26).double()
    wanted = encoder(x)
    for layer in encoder.layers:
        for write in (layer.attention.output, layer.mlp.contract):
            write.weight.data -= write.weight.data.mean(0)
            write.bias.data -= write.bias.data.mean()
    with_norm(encoder, RMSNorm)
    for norm, gain in zip((m for m in encoder.modules() if isinstance(m, RMSNorm)), gains, strict=True):
        norm.weight = gain
    assert close(encoder(x - x.mean(-1, keepdim=True)), wanted)


def test_bad_sizes_are_named(unchecked):
    for norm in (LayerNorm, RMSNorm, BatchNorm, PowerNorm):
        with pytest.raises(ValueError, match="width 5, but the norm was built for dim=7"):
            norm(WIDTH)(torch.randn(2, 5))
    with pytest.raises(ValueError, match="2 tokens at least to train on, but the batch has 1"):
        BatchNorm(WIDTH)(torch.randn(1, WIDTH))
    with pytest.raises(ValueError, match=r"alpha_forward=1 and alpha_backward=0.9 must be in \[0, 1\)"):
        PowerNorm(WIDTH, alpha_forward=1)
    with pytest.raises(ValueError, match=r"alpha_forward=0.9 and alpha_backward=-1"):
        PowerNorm(WIDTH, alpha_backward=-1)
    with pytest.raises(ValueError, match=r"Linear has no nn\.LayerNorm inside"):
        with_norm(nn.Linear(2, 3), RMSNorm)
