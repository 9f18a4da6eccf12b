"""Attention can be recorded from any model that has some, and costs include it."""

import math
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_notes.inspect import attention_span, count_macs, count_parameters, record_attention, rollout
from attention_notes.nn.attention import MultiHeadAttention, attention_weights

Softmax = Callable[[Tensor], Tensor]
Product = Callable[[Tensor, Tensor], Tensor]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = MultiHeadAttention(15, heads=3)
        self.second = MultiHeadAttention(15, heads=5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x), mask=torch.ones(7, 7, dtype=torch.bool).tril())


def test_recording_gives_the_literal_weights_and_changes_no_output():
    model, x = Two(), torch.randn(2, 7, 15)
    before = model(x)
    with record_attention(model) as maps:
        during = model(x)
    assert torch.equal(before, during)
    assert {name: tuple(m.shape) for name, m in maps.items()} == {"first": (2, 3, 7, 7), "second": (2, 5, 7, 7)}
    q = model.first.query(x).unflatten(-1, (3, 5)).transpose(1, 2)
    k = model.first.key(x).unflatten(-1, (3, 5)).transpose(1, 2)
    torch.testing.assert_close(maps["first"], attention_weights(q, k))
    assert not maps["second"].triu(1).any()


def test_a_module_that_attends_again_is_kept_apart():
    model = Two()
    with record_attention(model) as maps:
        model(torch.randn(2, 7, 15))
        model(torch.randn(2, 7, 15))
    assert list(maps) == ["first", "second", "first#2", "second#2"]


def test_models_of_others_can_be_looked_into():
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2).eval()
    with record_attention(vit) as maps:
        vit(torch.randn(1, 3, 32, 32))
    assert list(maps) == ["blocks.0.attn", "blocks.1.attn"]
    layer = nn.TransformerEncoderLayer(14, 2, batch_first=True).eval()
    with record_attention(layer) as maps:
        layer(torch.randn(3, 5, 14))
    torch.testing.assert_close(maps["self_attn"].sum(-1), torch.ones(3, 2, 5))


def test_causal_and_grouped_calls_are_recorded_as_they_are_computed():
    class Grouped(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True, scale=0.3)

    q, k, model = torch.randn(2, 6, 5, 7), torch.randn(2, 3, 5, 7), Grouped()
    with record_attention(model) as maps:
        out = model(q, k)
    torch.testing.assert_close(maps[""] @ k.repeat_interleave(2, dim=1), out)


def test_nothing_is_left_behind_after_recording_even_when_the_model_fails():
    fused, model = F.scaled_dot_product_attention, Two()
    with pytest.raises(RuntimeError, match="shape"), record_attention(model):
        nn.Linear(3, 3)(torch.randn(2, 2))
    assert F.scaled_dot_product_attention is fused
    assert not model.first._forward_hooks
    assert not model.first._forward_pre_hooks


def test_a_model_without_attention_says_so():
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match=r"inside record_attention\(Sequential\)"), record_attention(model):
        model(torch.randn(2, 3))


class Written(nn.Module):
    """Attention that is written out: how it softmaxes, and how it multiplies, are given."""

    def __init__(self, softmax: Softmax, product: Product, dropout: float = 0.0) -> None:
        super().__init__()
        self.softmax, self.product, self.dropout = softmax, product, nn.Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.product(self.dropout(self.softmax(q @ k.mT * q.shape[-1] ** -0.5)), v)


SOFTMAXES = {
    "a method": lambda scores: scores.softmax(-1),
    "torch": lambda scores: torch.softmax(scores, dim=3),
    "functional, in single precision": lambda scores: F.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype),
    "masked afterwards": lambda scores: scores.softmax(-1).masked_fill(torch.eye(5).bool(), 0.0),
    "a module": nn.Softmax(dim=-1),
}
PRODUCTS = {
    "@": lambda weights, v: weights @ v,
    "matmul": torch.matmul,
    "a method": lambda weights, v: weights.matmul(v),
    "einsum": lambda weights, v: torch.einsum("bhnm,bhmd->bhnd", weights, v),
    "einsum of tokens first": lambda weights, v: torch.einsum("bhnm,bmhd->bnhd", weights, v.transpose(1, 2)),
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_attention_that_is_written_out_is_recorded_before_its_dropout(softmax, product):
    q, k, v = torch.randn(3, 2, 4, 5, 7)
    model = Written(SOFTMAXES[softmax], PRODUCTS[product], dropout=0.5)
    for training in (True, False):
        model.train(training)
        torch.manual_seed(1)
        before = model(q, k, v)
        torch.manual_seed(1)
        with record_attention(model) as maps:
            assert torch.equal(model(q, k, v), before)
        assert list(maps) == [""]
        expected = SOFTMAXES[softmax](q @ k.mT * 7**-0.5)
        assert torch.equal(maps[""], expected)


def test_weights_without_heads_are_recorded_as_they_are_and_have_no_rollout(unchecked):
    x = torch.randn(2, 5, 7)
    with record_attention(model := Written(nn.Softmax(dim=-1), torch.bmm)) as maps:
        model(x, x, x)
    assert maps[""].shape == (2, 5, 5)
    with pytest.raises(ValueError, match=r"one sequence, b h n n; got \[\(2, 5, 5\)\]"):
        rollout(maps)


def test_what_is_no_attention_is_not_recorded():
    values, table = torch.randn(2, 4, 5, 7), torch.randn(5, 7)
    scores = torch.randn(2, 4, 6, 5)
    over_queries = Written(lambda s: s.softmax(-2), torch.matmul)
    over_keys = Written(lambda s: s.softmax(-1), lambda w, v: w @ table)  # the same table for every sample
    unused = Written(lambda s: s.softmax(-1), lambda w, v: w.sum())

    def ran(model: nn.Module) -> str:
        with pytest.raises(RuntimeError) as raised, record_attention(model):
            model(scores, torch.randn(2, 4, 5, 5), values)
        return str(raised.value)

    assert "no softmax attention ran inside record_attention(Written): choose a model that has some" in ran(
        over_queries
    )
    for model in (over_keys, unused):
        assert "there is a softmax in '', but it was not multiplied with values" in ran(model)
        assert 'attn_implementation="sdpa"' in ran(model)
        assert "set_fused_attn(True)" in ran(model)
    classes = nn.Sequential(nn.Linear(5, 5), nn.Softmax(-1))
    with pytest.raises(RuntimeError, match="no softmax attention ran"), record_attention(classes):
        classes(torch.randn(2, 5)) @ table


def test_a_model_that_did_not_run_is_told_from_one_without_attention():
    message = r"the model did not run inside record_attention\(Two\): call it there"
    with pytest.raises(RuntimeError, match=message), record_attention(Two()):
        pass


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention_is_recorded_with_and_without_the_weights_that_it_returns(need_weights, masked):
    layer = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    x, padding = torch.randn(2, 5, 12), torch.arange(5) >= torch.tensor([[5], [3]])
    options = {"need_weights": need_weights, "key_padding_mask": padding if masked else None}
    before = layer(x, x, x, **options)
    with record_attention(layer) as maps:
        during = layer(x, x, x, **options)
    assert torch.equal(before[0], during[0])
    assert before[1] is during[1] is None or torch.equal(before[1], during[1])
    assert list(maps) == [""]
    _, expected = layer(x, x, x, average_attn_weights=False, **options | {"need_weights": True})
    torch.testing.assert_close(maps[""], expected)


def test_the_fast_path_is_left_where_a_model_is_recorded_and_nowhere_else():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 2).eval()
    x, padding = torch.randn(2, 5, 12), torch.arange(5) >= torch.tensor([[5], [3]])
    with torch.no_grad():
        before = encoder(x, src_key_padding_mask=padding)
        with record_attention(encoder) as maps:
            during = encoder(x, src_key_padding_mask=padding)
        assert torch.equal(encoder(x, src_key_padding_mask=padding), before)
    torch.testing.assert_close(during[0], before[0])
    torch.testing.assert_close(during[1, :3], before[1, :3])
    assert list(maps) == ["layers.0.self_attn", "layers.1.self_attn"]
    assert not maps["layers.1.self_attn"][1, ..., 3:].any()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_recorded_also_when_it_was_compiled_before(backend, unchecked):
    torch.compiler.reset()
    model, x = Plain(), torch.randn(2, 5, 4)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        before = compiled(x)
        with record_attention(model) as alone:
            model(x)
        for recorded, prefix in ((model, ""), (compiled, "_orig_mod.")):
            with record_attention(recorded) as maps:
                torch.testing.assert_close(compiled(x), before)
                compiled(x)
            names = [f"{prefix}{name}" for name in alone]
            assert list(maps) == names + [f"{name}#2" for name in names]
            for name, weights in maps.items():
                torch.testing.assert_close(weights, alone[name.removeprefix(prefix).removesuffix("#2")])
        torch.testing.assert_close(compiled(x), before)


def test_heads_whose_few_keys_a_compiler_gets_written_out_are_recorded_as_they_are(unchecked):
    torch.compiler.reset()
    model, x = MultiHeadAttention(8, heads=2).eval(), torch.randn(3, 5, 8)
    with torch.no_grad(), record_attention(model) as alone:
        model(x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), record_attention(compiled) as maps:
        compiled(x)
    assert [weights.shape for weights in maps.values()] == [(3, 2, 5, 5)]
    torch.testing.assert_close([*maps.values()], [*alone.values()])


class Fused(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Plain(nn.Module):
    """Fused attention and attention that is written out, with little else, so that a trace is short."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.fused = nn.Linear(4, 12), Fused()
        self.written = Written(nn.Softmax(dim=-1), torch.matmul)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return self.written(q, k, self.fused(q, k, v))[:, 0]


def test_parameters_that_are_shared_count_once():
    one = nn.Linear(3, 5)
    assert count_parameters(nn.Sequential(one, nn.ReLU(), one)) == 3 * 5 + 5


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_cost_of_attention_is_counted_by_hand(device):
    b, n, c, h = 2, 7, 15, 3
    model = MultiHeadAttention(c, heads=h).to(device)
    assert count_macs(model, torch.randn(b, n, c, device=device)) == b * (4 * n * c * c + 2 * n * n * c)
    masked = count_macs(model, torch.randn(b, n, c, device=device), mask=torch.ones(n, n, device=device))
    assert masked == b * (4 * n * c * c + 2 * n * n * c)


def test_who_looks_at_itself_looks_nowhere_and_who_looks_everywhere_looks_a_mean_distance_far():
    itself, everywhere = torch.eye(6)[None, None], torch.full((1, 1, 6, 6), 1 / 6)
    both = torch.cat([itself, everywhere], 1)
    places = [((r + 0.5) / 2, (c + 0.5) / 3) for r in range(2) for c in range(3)]
    mean = sum(math.dist(a, b) for a in places for b in places) / 36
    assert attention_span(both, queries=(2, 3), keys=(2, 3)).tolist() == pytest.approx([0, mean])


def test_the_span_of_pooled_keys_is_measured_to_the_middle_of_their_cells():
    weights = torch.ones(1, 1, 4, 1)  # four corners look at the one key in the middle
    assert attention_span(weights, queries=(2, 2), keys=(1, 1)).item() == pytest.approx(math.sqrt(2) / 4)


def test_the_span_wants_a_place_for_every_token(unchecked):
    with pytest.raises(ValueError, match="5 queries, but a grid of 2 x 2; leave out"):
        attention_span(torch.ones(1, 1, 5, 4), queries=(2, 2), keys=(2, 2))
