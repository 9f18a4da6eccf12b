"""The two faces of softmax attention, and its heads."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.nn.attention import AttentionDropout, MultiHeadAttention, attention, attention_weights

MASKS = {
    "none": None,
    "causal": torch.ones(5, 7, dtype=torch.bool).tril(),
    "one row forbidden": torch.arange(5)[:, None].expand(5, 7) != 2,
    "padding": torch.arange(7) < 4,
    "bias": torch.linspace(-3, 3, 35).reshape(5, 7),
    "bias with holes": torch.where(torch.arange(35).reshape(5, 7) % 3 == 0, float("-inf"), 0.5),
}


def qkv(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.randn(2, 3, n, d, dtype=dtype, requires_grad=True) for n, d in ((5, 11), (7, 11), (7, 13))]


@pytest.mark.parametrize("scale", [None, 0.37])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_the_literal_equation_equals_the_fused_kernel_in_outputs_and_gradients(mask, scale):
    q, k, v = qkv()
    mask = mask.double() if mask is not None and mask.is_floating_point() else mask
    literal = attention_weights(q, k, mask=mask, scale=scale) @ v
    fused = attention(q, k, v, mask=mask, scale=scale)
    toward = torch.randn_like(literal)
    torch.testing.assert_close(literal, fused, atol=1e-10, rtol=0)
    for ours, theirs in zip(
        torch.autograd.grad(literal, (q, k, v), toward), torch.autograd.grad(fused, (q, k, v), toward), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_two_keys_by_hand():
    q = torch.tensor([[2.0]])
    k = torch.tensor([[0.0], [torch.log(torch.tensor(3.0)) / 2]])
    torch.testing.assert_close(attention_weights(q, k), torch.tensor([[0.25, 0.75]]))


def test_the_scores_are_divided_by_the_root_of_the_width():
    q, k, _ = qkv()
    torch.testing.assert_close(attention_weights(q, k), (q @ k.mT / 11**0.5).softmax(-1))


def test_weights_are_a_distribution_over_the_keys_that_are_allowed():
    q, k, _ = qkv()
    weights = attention_weights(q, k, mask=MASKS["causal"])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
    assert not weights[..., ~MASKS["causal"]].any()


def test_a_query_that_may_look_nowhere_gets_nothing():
    q, k, v = qkv()
    assert not attention(q, k, v, mask=MASKS["one row forbidden"])[:, :, 2].any()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(5, 7, dtype=torch.int64), r"dtype torch.int64: pass a boolean mask.*mask\.bool\(\)"),
        (torch.ones(7, 5, dtype=torch.bool), r"\(7, 5\) does not broadcast to the scores' shape \(2, 3, 5, 7\)"),
        (torch.ones(1, 2, 3, 5, 7), r"\(1, 2, 3, 5, 7\) does not broadcast"),
    ],
)
def test_a_mask_of_the_wrong_shape_or_kind_is_refused_with_the_way_out(unchecked, mask, message):
    for call in (attention_weights, lambda q, k, mask: attention(q, k, k, mask=mask)):
        with pytest.raises(ValueError, match=message):
            call(*qkv()[:2], mask=mask)


def test_widths_and_counts_that_do_not_fit_are_named(unchecked):
    q, k, v = qkv()
    with pytest.raises(ValueError, match="width 11 but keys have width 13"):
        attention_weights(q, v)
    with pytest.raises(ValueError, match="7 keys but 6 values"):
        attention(q, k, v[:, :, :6])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="dim=10 is not divisible by heads=3"):
        MultiHeadAttention(10, heads=3)


def reference(ours: MultiHeadAttention, dim: int, heads: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(dim, heads, batch_first=True, dtype=ours.query.weight.dtype)
    with torch.no_grad():
        for p in ours.parameters():
            nn.init.normal_(p, std=0.3)
        maps = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in maps]))
        theirs.in_proj_bias.copy_(torch.cat([m.bias for m in maps]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    return theirs


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
def test_heads_equal_those_of_pytorch_in_outputs_and_gradients(dtype, tolerance, masked, crossed):
    ours = MultiHeadAttention(15, heads=3).to(dtype)
    theirs = reference(ours, 15, 3)
    x = torch.randn(2, 5, 15, dtype=dtype, requires_grad=True)
    context = torch.randn(2, 7, 15, dtype=dtype, requires_grad=True) if crossed else x
    mask = torch.rand(5, context.shape[1]) < 0.7
    mask[:, 0] = True
    a = ours(x, context if crossed else None, mask=mask if masked else None)
    b, _ = theirs(x, context, context, attn_mask=~mask if masked else None, need_weights=False)
    toward = torch.randn_like(a)
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
    inputs = (x, context) if crossed else (x,)
    got = torch.autograd.grad(a, (*inputs, ours.query.weight, ours.key.weight, ours.value.weight), toward)
    expected = torch.autograd.grad(b, (*inputs, theirs.in_proj_weight), toward)
    expected = (*expected[:-1], *expected[-1].chunk(3))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, atol=tolerance, rtol=tolerance)


def test_one_head_is_attention_between_two_linear_maps():
    one = MultiHeadAttention(7, heads=1)
    x = torch.randn(2, 5, 7)
    torch.testing.assert_close(one(x), one.output(attention(one.query(x), one.key(x), one.value(x))))


def test_keeping_keys_and_values_changes_nothing():
    heads = MultiHeadAttention(15, heads=5)
    x, context = torch.randn(2, 3, 15), torch.randn(2, 7, 15)
    torch.testing.assert_close(heads.attend(x, *heads.keys_values(context)), heads(x, context))


def test_dropout_takes_weights_away_and_enlarges_the_others():
    q, k, v = qkv()
    torch.manual_seed(3)
    found = attention(q, k, v, dropout=0.4)
    torch.manual_seed(3)
    torch.testing.assert_close(found, F.dropout(attention_weights(q, k), 0.4) @ v)
    assert not torch.equal(found, attention(q, k, v))


def test_the_rate_of_dropout_is_zero_in_evaluation_and_follows_what_is_set():
    dropout = AttentionDropout(0.4)
    assert (dropout.rate, dropout.eval().rate) == (0.4, 0.0)
    dropout.train().p = 0.0
    assert dropout.rate == 0.0


def test_heads_drop_weights_in_training_only():
    ours = MultiHeadAttention(6, heads=2, attention_dropout=0.4).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    q, (k, v) = ours.keys_values(x)[0], ours.keys_values(x)
    q = ours.query(x).unflatten(-1, (2, 3)).transpose(1, 2)
    torch.manual_seed(3)
    found = ours(x)
    torch.manual_seed(3)
    dropped = F.dropout(attention_weights(q, k), 0.4) @ v
    torch.testing.assert_close(found, ours.output(dropped.transpose(1, 2).flatten(2)))
    whole = attention(q, k, v)
    torch.testing.assert_close(ours.eval()(x), ours.output(whole.transpose(1, 2).flatten(2)))


def captured(call, *inputs):
    """What a compiled function gives, and the code of its graph."""
    torch.compiler.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph.code)
        return graph.forward

    return torch.compile(call, backend=backend, fullgraph=True)(*inputs), "".join(graphs)


@pytest.mark.parametrize(
    ("keys", "options", "written"),
    [
        (64, {}, True),
        (65, {}, False),
        (64, {"scale": 0.3}, True),
        (64, {"mask": torch.ones(64, dtype=torch.bool)}, False),
        (64, {"dtype": torch.bfloat16}, False),
    ],
)
def test_a_compiler_for_a_cpu_is_given_the_equation_where_keys_are_few(keys, options, written, unchecked):
    dtype = options.pop("dtype", torch.float32)
    q, k, v = (torch.randn(2, 3, n, 8, dtype=dtype) for n in (5, keys, keys))
    out, code = captured(partial(attention, **options), q, k, v)
    assert ("softmax" in code, "scaled_dot_product" in code) == (written, not written)
    torch.testing.assert_close(out, attention(q, k, v, **options))


def test_compiled_attention_drops_weights_and_enlarges_the_others(unchecked):
    q, k = torch.randn(2, 4, 50, 8)
    whole = attention_weights(q, k)
    out, _ = captured(partial(attention, dropout=0.5), q, k, torch.eye(50).expand(4, 50, 50))
    dropped = out == 0
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(out[~dropped], 2 * whole[~dropped])


def test_what_is_exported_keeps_the_fused_attention():
    model = MultiHeadAttention(8, heads=2).eval()
    graph = torch.export.export(model, (torch.randn(1, 5, 8),)).graph
    assert any("scaled_dot_product" in str(node.target) for node in graph.nodes)
