"""The operation without parameters, the scores one may put into it, and the convolution made of heads."""

import itertools
import math

import pytest
import torch
from einops import rearrange
from torch import nn

from attention_notes.chapters import data
from attention_notes.nn.attention import attention, attention_weights
from attention_notes.papers.self_attention import Additive, ConvolutionByHeads, General, dot, matching, self_attention

PRECISION = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=["float32", "float64"])


def literal(x: torch.Tensor) -> torch.Tensor:
    """Two loops over tokens: nothing shared with the code under test."""
    rows = []
    for i in range(len(x)):
        scores = [math.exp(float((x[i] * x[j]).sum())) for j in range(len(x))]
        rows.append(sum(s / sum(scores) * x[j] for j, s in enumerate(scores)))
    return torch.stack(rows)


def test_each_output_is_the_softmax_weighted_sum_of_the_inputs():
    x = torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(self_attention(x), literal(x), atol=1e-10, rtol=0)


def test_two_tokens_by_hand():
    x = torch.tensor([[0.0], [math.sqrt(math.log(3.0))]])
    torch.testing.assert_close(self_attention(x), x[1] * torch.tensor([[0.5], [0.75]]))


def test_one_token_attends_to_itself():
    x = torch.randn(3, 1, 5)
    torch.testing.assert_close(self_attention(x), x)


def test_at_scale_zero_every_output_is_the_mean():
    x = torch.randn(2, 7, 5)
    torch.testing.assert_close(self_attention(x, scale=0.0), x.mean(-2, keepdim=True).expand_as(x))


def test_moving_the_tokens_moves_the_outputs_and_nothing_else():
    x, order = torch.randn(2, 7, 5, dtype=torch.float64), torch.randperm(7)
    torch.testing.assert_close(self_attention(x[:, order]), self_attention(x)[:, order], atol=1e-10, rtol=0)
    assert not torch.allclose(self_attention(x)[:, order], self_attention(x))


def test_a_causal_mask_hides_the_tokens_that_follow():
    x = torch.randn(7, 5, requires_grad=True)
    y = self_attention(x, mask=torch.ones(7, 7, dtype=torch.bool).tril())
    seen = torch.autograd.grad(y[3].sum(), x)[0].abs().sum(-1) > 0
    assert seen.tolist() == [True] * 4 + [False] * 3


@DTYPES
def test_the_dot_product_inside_the_general_look_up_is_attention_itself(dtype, tolerance):
    q, k, v = (torch.randn(2, n, d, dtype=dtype, requires_grad=True) for n, d in ((5, 11), (7, 11), (7, 13)))
    ours, theirs = matching(q, k) @ v, attention(q, k, v, scale=1.0)
    toward = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    got, expected = (torch.autograd.grad(y, (q, k, v), toward) for y in (ours, theirs))
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def test_every_compatibility_gives_a_distribution_over_the_keys_and_learns():
    q, k = torch.randn(2, 5, 11), torch.randn(2, 7, 13)
    for compatibility in (General(11, keys=13), Additive(11, keys=13, hidden=17)):
        weights = matching(q, k, compatibility=compatibility)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))
        weights.square().sum().backward()
        for name, p in compatibility.named_parameters():
            assert p.grad is not None
            assert p.grad.abs().max() > 0, f"{type(compatibility).__name__}.{name} gets no gradient"


def test_general_with_the_identity_is_the_dot_product():
    q, k = torch.randn(5, 11), torch.randn(7, 11)
    general = General(11, keys=11)
    nn.init.eye_(general.weight)
    torch.testing.assert_close(general(q, k), dot(q, k))


def test_general_is_the_sum_over_all_pairs_of_features():
    q, k, general = torch.randn(2, 3), torch.randn(1, 5), General(3, keys=5)
    pairs = list(itertools.product(range(3), range(5)))
    expected = torch.stack([sum(q[i, a] * general.weight[a, c] * k[0, c] for a, c in pairs) for i in range(2)])
    torch.testing.assert_close(general(q, k), expected[:, None])


def test_additive_is_an_mlp_on_the_joined_vector():
    q, k, additive = torch.randn(5, 11), torch.randn(7, 13), Additive(11, keys=13, hidden=17)
    joined = torch.cat([q[:, None].expand(5, 7, 11), k[None].expand(5, 7, 13)], -1)
    hidden = joined @ torch.cat([additive.query.weight, additive.key.weight], 1).T + additive.query.bias
    torch.testing.assert_close(additive(q, k), hidden.tanh() @ additive.score.weight[0])


def test_scores_that_fit_neither_queries_nor_keys_are_refused(unchecked):
    q, k = torch.randn(5, 11), torch.randn(7, 13)
    with pytest.raises(ValueError, match="width 11 but keys have width 13"):
        matching(q, k)
    with pytest.raises(ValueError, match=r"5 queries and 7 keys, but the scores have shape \(7, 5\)"):
        matching(q, k, compatibility=lambda q, k: k[:, :5] @ q[:, :5].T)


# Kernel, stride, dilation, padding: all of nn.Conv2d but groups; no two sizes of a case are alike by accident.
CONVOLUTIONS = {
    "one pixel": {"kernel_size": 1},
    "3x3 same": {"kernel_size": 3, "padding": 1},
    "3x3 valid": {"kernel_size": 3},
    "5x3": {"kernel_size": (5, 3), "padding": (2, 1)},
    "same by name": {"kernel_size": (5, 3), "dilation": (1, 2), "padding": "same"},
    "even, same by name": pytest.param(
        {"kernel_size": (4, 2), "padding": "same"},
        marks=pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),
    ),
    "dilated": {"kernel_size": 3, "dilation": (2, 3), "padding": (2, 3)},
    "stride": {"kernel_size": 3, "stride": (2, 3), "padding": 1},
    "patches": {"kernel_size": 5, "stride": 5},
    "padded beyond need": {"kernel_size": 2, "padding": (3, 2), "stride": 2},
    "replicate": {"kernel_size": 5, "padding": 2, "padding_mode": "replicate"},
    "replicate, stride": {"kernel_size": 3, "padding": 2, "stride": 2, "padding_mode": "replicate"},
    "valid by name, without bias": {"kernel_size": 3, "padding": "valid", "bias": False},
}


@DTYPES
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_a_convolution_is_one_head_for_each_tap_in_outputs_and_gradients(options, dtype, tolerance):
    conv = nn.Conv2d(3, 5, **options, dtype=dtype)
    heads = ConvolutionByHeads(conv)
    x = torch.randn(2, 3, 11, 13, dtype=dtype, requires_grad=True)
    ours, theirs = heads(x), conv(x)
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    toward = torch.randn_like(theirs)
    of_x, of_kernel, *of_bias = torch.autograd.grad(ours, (x, *heads.output.parameters()), toward)
    expected_x, expected_kernel, *expected_bias = torch.autograd.grad(theirs, (x, *conv.parameters()), toward)
    by_tap = rearrange(of_kernel, "o (i j c) -> o c i j", c=3, i=conv.kernel_size[0])
    torch.testing.assert_close(of_x, expected_x, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(by_tap, expected_kernel, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(of_bias, expected_bias, atol=tolerance, rtol=tolerance)


def test_each_head_puts_all_its_weight_on_the_pixel_at_its_offset():
    heads = ConvolutionByHeads(nn.Conv2d(1, 1, kernel_size=3, padding=1, padding_mode="replicate"))
    weights = heads.weights(torch.zeros(1, 1, 5, 7)).unflatten(1, (5, 7)).unflatten(-1, (5, 7))
    for (dy, dx), head in zip(heads.offsets.tolist(), weights, strict=True):
        for y, x in itertools.product(range(5), range(7)):
            target = min(max(y + dy, 0), 4), min(max(x + dx, 0), 6)
            assert head[y, x].sum() == head[y, x][target] == 1


def test_blunt_heads_are_a_gaussian_and_then_the_mean():
    conv, picture = nn.Conv2d(1, 1, kernel_size=1), torch.zeros(1, 1, 1, 3)
    by_hand = torch.tensor([1.0, math.exp(-0.5), math.exp(-2.0)])
    torch.testing.assert_close(
        ConvolutionByHeads(conv, sharpness=0.5).weights(picture)[0, 0], by_hand / by_hand.sum(), atol=1e-6, rtol=0
    )
    assert ConvolutionByHeads(conv, sharpness=0.0).weights(picture)[0, 0].tolist() == pytest.approx([1 / 3] * 3)


def test_heads_stay_exact_on_pictures_as_large_as_photographs_and_in_half_precision():
    conv = nn.Conv2d(1, 1, kernel_size=(1, 3), padding=(0, 1), dtype=torch.bfloat16)
    heads = ConvolutionByHeads(conv).to(torch.bfloat16)
    weights = heads.weights(torch.zeros(1, 1, 1, 2048, dtype=torch.bfloat16))
    assert weights.dtype == torch.bfloat16
    assert torch.equal(weights[0].argmax(-1), torch.arange(2048))  # the ring shifts the keys by one
    assert (weights.amax(-1) == 1).all()


def test_the_copy_does_not_share_memory_with_the_convolution():
    conv = nn.Conv2d(3, 5, kernel_size=1)  # of one tap: reordering it alone copies nothing
    heads = ConvolutionByHeads(conv)
    with torch.no_grad():
        heads.output.weight.zero_()
        heads.output.bias.zero_()
    assert conv.weight.abs().min() > 0
    assert conv.bias.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 3, "groups": 3}, "groups=3"),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, "padding_mode='circular'"),
    ],
)
def test_convolutions_that_heads_cannot_rebuild_are_refused(unchecked, options, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionByHeads(nn.Conv2d(3, 3, **options))


def test_a_picture_smaller_than_the_kernel_is_named(unchecked):
    with pytest.raises(ValueError, match=r"padded picture of \(4, 15\) is smaller than a kernel of \(5, 5\)"):
        ConvolutionByHeads(nn.Conv2d(1, 1, kernel_size=5, padding=1))(torch.zeros(1, 1, 2, 13))


def test_one_head_for_each_tap_has_the_parameters_of_the_convolution():
    conv = nn.Conv2d(3, 5, kernel_size=(7, 2))
    heads = ConvolutionByHeads(conv)
    assert sum(p.numel() for p in heads.parameters()) == sum(p.numel() for p in conv.parameters()) == 3 * 5 * 14 + 5
    assert len(heads.weights(torch.zeros(1, 3, 8, 9))) == 14


def test_the_weights_of_the_general_look_up_are_those_of_the_core():
    q, k = torch.randn(2, 3, 5, 11), torch.randn(2, 3, 7, 11)
    torch.testing.assert_close(matching(q, k), attention_weights(q, k, scale=1.0))


def test_word_vectors_know_which_words_keep_the_same_company():
    vectors = data.word_vectors(data.sentences())
    table = torch.nn.functional.normalize(torch.stack([*vectors.values()]), dim=-1)
    words = [*vectors]
    for word, kin in (("left", "right"), ("true", "false"), ("positive", "negative"), ("global", "nonlocal")):
        nearest = (table @ table[words.index(word)]).topk(2).indices[1]
        assert words[nearest] == kin


def test_word_vectors_by_hand():
    """Two words that only stand beside each other: mutual information ln 2 with the other, none with themselves.

    Of [[0, ln 2], [ln 2, 0]] both singular values are ln 2, so the vectors are orthogonal and of squared length ln 2.
    """
    vectors = data.word_vectors(["Salt: pepper", "pepper, SALT; a"], width=2, at_least=2)
    x = torch.stack([vectors["salt"], vectors["pepper"]])
    torch.testing.assert_close(x @ x.T, math.log(2) * torch.eye(2))


def test_an_unknown_photograph_is_named_with_the_known(unchecked):
    assert data.photograph("flower").shape == (3, 427, 640)
    with pytest.raises(ValueError, match=r"'dog'; known: china, flower"):
        data.photograph("dog")
