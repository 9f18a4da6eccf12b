"""Attention can be recorded from any model that has some, and costs include it."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.inspect import attention_span, count_macs, count_parameters, record_attention
from attention_notes.nn.attention import MultiHeadAttention, attention_weights


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
