"""The instruments that say who depends on whom, and the operators that they are pointed at."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close
from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.papers.why_attention import (
    Convolution,
    PositionMLP,
    Recurrence,
    dependence,
    free_weights,
    path_length,
    receptive_field,
    theoretical_receptive_field,
)

BATCH, N, DIM, CHANNELS, ROWS, COLUMNS = 2, 13, 5, 3, 11, 17
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def tokens(dtype=torch.float64, *, batch=BATCH, n=N, dim=DIM):
    return torch.randn(batch, n, dim, dtype=dtype)


@DTYPES
def test_the_field_of_tokens_is_the_norm_of_the_jacobian(dtype):
    model = nn.Sequential(MultiHeadAttention(DIM, heads=1), Convolution(DIM, kernel=3), nn.Tanh()).to(dtype)
    x = tokens(dtype)
    jacobians = [torch.autograd.functional.jacobian(lambda t: model(t[None])[0, 7], sample) for sample in x]
    expected = torch.stack([j.square().sum((0, 2)) for j in jacobians]).mean(0).sqrt()
    assert close(receptive_field(model, x, position=7), expected)


@DTYPES
def test_the_field_of_an_image_is_the_norm_of_the_jacobian(dtype):
    model = nn.Sequential(nn.Conv2d(CHANNELS, 7, 3, padding=1), nn.Tanh(), nn.Conv2d(7, 2, 5, padding=2)).to(dtype)
    x = torch.randn(BATCH, CHANNELS, ROWS, COLUMNS, dtype=dtype)
    jacobians = [torch.autograd.functional.jacobian(lambda t: model(t[None])[0, :, 4, 9], sample) for sample in x]
    expected = torch.stack([j.square().sum((0, 1)) for j in jacobians]).mean(0).sqrt()
    field = receptive_field(model, x, position=(4, 9))
    assert field.shape == (ROWS, COLUMNS)
    assert close(field, expected)


def test_two_tokens_by_hand():
    layer = PositionMLP(2)
    layer.connect.weight.data = torch.tensor([[3.0, 0.0], [-1.0, 2.0]])
    expected = torch.tensor([[3.0, 0.0], [1.0, 2.0]]) * math.sqrt(DIM)  # a multiple of the identity over the features
    assert close(dependence(layer, tokens(torch.float32, n=2)), expected)


def test_channels_of_opposite_sign_do_not_cancel():
    split = nn.Conv1d(1, 2, 1, bias=False)
    split.weight.data = torch.tensor([[[1.0]], [[-1.0]]])
    assert close(dependence(lambda t: split(t.mT).mT, tokens(torch.float32, dim=1)), torch.eye(N) * math.sqrt(2))


def test_samples_that_disagree_do_not_cancel():
    x = torch.tensor([1.0, -1.0]).view(2, 1, 1).expand(2, N, 1)
    assert close(dependence(lambda t: t.square(), x), 2 * torch.eye(N))


def test_a_row_of_who_depends_on_whom_is_a_receptive_field():
    model, x = MultiHeadAttention(DIM, heads=1).double(), tokens()
    rows = dependence(model, x)
    assert all(torch.equal(rows[i], receptive_field(model, x, position=i)) for i in (0, 6, N - 1))
    assert torch.equal(rows[-2], receptive_field(model, x, position=-2))


def test_measuring_leaves_no_trace():
    model, x = Recurrence(DIM).double().eval(), tokens()
    receptive_field(model, x, position=3)
    assert not x.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


CHAINS = [
    ([3], [1], [1]),
    ([3, 5], [1, 1], [1, 1]),
    ([3, 3, 3], [1, 1, 1], [1, 2, 4]),
    ([5, 3, 3], [2, 1, 3], [1, 2, 1]),
    ([3, 3, 5], [2, 2, 1], [1, 1, 2]),
]


@pytest.mark.parametrize(("kernels", "strides", "dilations"), CHAINS)
def test_what_the_formula_says_is_what_derivatives_find(kernels, strides, dilations):
    layers = zip(kernels, strides, dilations, strict=True)
    stack = nn.Sequential(*(Convolution(1, kernel=k, stride=s, dilation=d) for k, s, d in layers)).double()
    x = tokens(n=101, dim=1)
    seen = (receptive_field(stack, x, position=stack(x).shape[1] // 2) > 0).nonzero().flatten()
    formula = theoretical_receptive_field(kernels, strides=strides, dilations=dilations)
    assert int(seen[-1] - seen[0]) + 1 == formula


def test_equal_dilations_leave_gaps_and_growing_ones_do_not():
    x = tokens(n=61, dim=1)
    for dilations, expected in ([2, 2, 2], 7), ([1, 2, 4], 15), ([1, 3, 9], 27):
        stack = nn.Sequential(*(Convolution(1, kernel=3, dilation=d) for d in dilations)).double()
        assert int((receptive_field(stack, x, position=30) > 0).sum()) == expected


def test_no_layer_reaches_one_input():
    assert theoretical_receptive_field([]) == 1
    assert theoretical_receptive_field([1, 1], strides=[2, 3]) == 1


def test_path_lengths_by_hand():
    x = tokens(n=17, dim=1)

    def needed(make):
        return path_length((make(i).double() for i in range(20)), x)

    assert needed(lambda i: Convolution(1, kernel=3)) == 16
    assert needed(lambda i: Convolution(1, kernel=5)) == 8
    assert needed(lambda i: Convolution(1, kernel=3, dilation=2**i)) == 5
    assert needed(lambda i: PositionMLP(17)) == needed(lambda i: MultiHeadAttention(1, heads=1)) == 1


def test_a_path_that_does_not_exist_is_not_found(unchecked):
    x = tokens(n=7, dim=1)
    with pytest.raises(ValueError, match="after 3 layers some of the 7 outputs"):
        path_length([Recurrence(1).double() for _ in range(3)], x)  # the first never learns of the last
    with pytest.raises(ValueError, match="after 0 layers"):
        path_length([], x)


@pytest.mark.parametrize("n", [5, 7])
def test_free_weights_are_counted_as_theory_has_them(n):
    """n² without a symmetry, n for circulant matrices, a I + b 1 1ᵀ for all reorderings."""
    still, turn = torch.arange(n), torch.arange(n).roll(1)
    every = torch.tensor([*itertools.permutations(range(n))][:: math.factorial(n) // 60])
    assert free_weights(still[:0].view(0, n)) == free_weights(still[None]) == n * n
    assert free_weights(turn[None]) == n
    assert free_weights(every) == 2


def test_free_weights_see_a_mirror():
    """Commuting with one swap of two places: the rest is free, what concerns the two is shared."""
    assert free_weights(torch.tensor([[1, 0, 2, 3, 4]])) == 9 + 2 * 3 + 2


@DTYPES
def test_an_mlp_over_positions_is_a_matrix_from_the_left(dtype):
    layer, x = PositionMLP(N).to(dtype), tokens(dtype)
    assert close(layer(x), layer.connect.weight @ x + layer.connect.bias[:, None])


@DTYPES
def test_a_convolution_is_a_sum_over_its_taps(dtype):
    layer, x = Convolution(DIM, kernel=3, stride=2, dilation=2).to(dtype), tokens(dtype)
    padded = F.pad(x, (0, 0, 2, 2))
    expected = sum(padded[:, 2 * t :][:, :N] @ layer.weight[:, :, t].mT for t in range(3)) + layer.bias
    assert close(layer(x), expected[:, ::2])
    assert layer(x).shape == (BATCH, 7, DIM)


@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_recurrence_sees_the_past_and_itself_only(cell):
    seen = dependence(Recurrence(DIM, cell=cell).double(), tokens()) > 0
    assert torch.equal(seen, torch.ones(N, N).tril() > 0)


def test_a_recurrence_is_its_equation():
    layer, x = Recurrence(DIM).double(), tokens()
    cell, state = layer.recurrent, torch.zeros(BATCH, DIM).double()
    for i in range(N):
        state = torch.tanh(
            F.linear(x[:, i], cell.weight_ih_l0, cell.bias_ih_l0) + state @ cell.weight_hh_l0.mT + cell.bias_hh_l0
        )
        assert close(layer(x)[:, i], state)


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="12 tokens, but the layer has weights for 13 places"):
        PositionMLP(N)(torch.randn(BATCH, 12, DIM))
    with pytest.raises(ValueError, match="kernel=4 has no middle; choose 3 or 5"):
        Convolution(DIM, kernel=4)
    with pytest.raises(ValueError, match="3 kernels, 2 strides and 3 dilations"):
        theoretical_receptive_field([3, 3, 3], strides=[1, 2])
    with pytest.raises(ValueError, match=r"\(2, 13, 5\) into \(2, 5\)"):
        receptive_field(lambda x: x.mean(1), torch.randn(BATCH, N, DIM), position=0)


def test_the_effective_field_of_equal_weights_counts_paths():
    """Averages of three, stacked: trinomial coefficients, by hand 1 2 3 2 1 over 9 for two layers."""
    stack = nn.Sequential(*(Convolution(1, kernel=3) for _ in range(2))).double()
    for layer in stack:
        nn.init.constant_(layer.weight, 1 / 3)
    field = receptive_field(stack, tokens(n=9, dim=1), position=4)
    assert close(9 * field, torch.tensor([0, 0, 1, 2, 3, 2, 1, 0, 0]).double())


def test_the_effective_field_of_random_weights_has_the_variance_of_a_random_walk():
    """The squared derivative spreads by (k² - 1) / 12 a layer (Luo et al. 2016, section 2)."""
    depth, kernel, dim = 7, 5, 16
    side = theoretical_receptive_field([kernel] * depth)
    x, squares = tokens(n=side, dim=dim), torch.zeros(side, dtype=torch.float64)
    for _ in range(20):
        stack = nn.Sequential(*(Convolution(dim, kernel=kernel) for _ in range(depth))).double()
        squares += receptive_field(stack, x, position=side // 2).square()
    offsets = torch.arange(side) - side // 2
    variance = (squares / squares.sum() * offsets**2).sum().item()
    assert variance == pytest.approx(depth * (kernel**2 - 1) / 12, rel=0.1)
