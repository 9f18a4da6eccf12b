"""Weights that keep their gradient, and what follows from both: relevance to a score."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_notes.inspect import attention_times_gradient, gradient_rollout, record_attention
from attention_notes.inspect.attention_maps import _made_from, see
from attention_notes.papers.vit import vit
from tests.contract import BATCH, images, randomised, run
from tests.papers.vit.cases import TINY
from tests.test_contract import MODELS

ATTENDING = {name: case for name, case in MODELS.items() if not case.no_softmax}
OVER_IMAGES = [name for name, case in ATTENDING.items() if [x.ndim for x in case.inputs()] == [4]]
every = pytest.mark.parametrize("case", ATTENDING.values(), ids=ATTENDING.keys())


@every
def test_with_gradients_outputs_agree_and_every_recorded_weight_has_one(case):
    model, inputs = randomised(case).double(), case.inputs()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    expected = run(model, inputs)
    with record_attention(model) as plain:
        run(model, inputs)
    with record_attention(model, gradients=True) as maps:
        out = run(model, inputs)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=1e-10)
    assert list(maps) == list(plain)
    for name, weights in maps.items():
        torch.testing.assert_close(weights, plain[name], atol=1e-12, rtol=1e-12)
    found = torch.autograd.grad(out.square().sum(), [*maps.values()])
    assert all(gradient.any() for gradient in found)


class Changed(nn.Module):
    """Attention whose weights can be given a small change."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 18).double()

    def forward(self, x: Tensor, change: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        if change is None:
            return F.scaled_dot_product_attention(q, k, v).tanh()
        return (((q @ k.mT * 6**-0.5).softmax(-1) + change) @ v).tanh()


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
def test_the_gradient_is_that_of_a_small_change_of_the_weights(frozen):
    model, x = Changed().requires_grad_(not frozen), torch.randn(2, 5, 6, dtype=torch.float64)
    with record_attention(model, gradients=True) as maps:
        score = model(x).square().sum()
    (gradient,) = torch.autograd.grad(score, [maps[""]])
    change, step = torch.randn_like(maps[""]).detach(), 1e-6
    more, less = (model(x, sign * step * change).square().sum().item() for sign in (1, -1))
    assert (gradient * change).sum().item() == pytest.approx((more - less) / (2 * step), rel=1e-6)


def test_multihead_attention_grouped_queries_masks_and_dropout_keep_their_gradient_too():
    layer = nn.MultiheadAttention(12, 3, batch_first=True, dropout=0.5).eval()
    x = torch.randn(2, 5, 12)
    for need_weights in (False, True):
        expected, _ = layer(x, x, x, need_weights=need_weights)
        with record_attention(layer, gradients=True) as maps:
            out, _ = layer(x, x, x, need_weights=need_weights)
        torch.testing.assert_close(out, expected)
        assert maps[""].shape == (2, 3, 5, 5)
        assert torch.autograd.grad(out.sum(), maps[""])[0].any()

    class Grouped(nn.Module):
        def forward(self, q: Tensor, k: Tensor, **options: bool) -> Tensor:
            return F.scaled_dot_product_attention(q, k, k, enable_gqa=True, scale=0.3, **options)

    q, k, model = torch.randn(2, 6, 5, 7), torch.randn(2, 3, 5, 7), Grouped()
    for options in ({"is_causal": True}, {"attn_mask": torch.eye(5, dtype=torch.bool)}):
        with record_attention(model, gradients=True) as maps:
            out = model(q, k, **options)
        torch.testing.assert_close(out, model(q, k, **options))
        assert torch.autograd.grad(out.sum(), maps[""])[0].any()
    torch.manual_seed(1)
    with record_attention(model, gradients=True) as maps:
        dropped = model(q, k, dropout_p=0.5)
    ours = maps[""] @ k.repeat_interleave(2, 1)
    assert not torch.allclose(dropped, ours)
    with pytest.raises(RuntimeError, match="exclude each other"), record_attention(model, gradients=True):
        model(q, k, is_causal=True, attn_mask=torch.eye(5, dtype=torch.bool))


def test_a_recorder_with_and_one_without_gradients_over_one_model_record_the_same():
    model, (x,) = randomised(MODELS["vit"]), images()
    with record_attention(model) as plain, record_attention(model, gradients=True) as maps:
        model(x)
    assert [weights.requires_grad for weights in maps.values()] == [True, True]
    assert not any(weights.requires_grad for weights in plain.values())
    for name, weights in maps.items():
        assert torch.equal(plain[name], weights)


def test_without_gradients_there_are_none_and_it_is_said_before_the_pass():
    model, (x,) = randomised(MODELS["vit"]), images()
    message = r"no gradients under no_grad\(\)"
    with torch.no_grad(), pytest.raises(RuntimeError, match=message), record_attention(model, gradients=True):
        model(x)
    with record_attention(model) as maps:
        score = model(x)[:, 0]
    for function in (gradient_rollout, attention_times_gradient):
        with pytest.raises(ValueError, match=r"no gradients of 'blocks.0.attention', .*gradients=True"):
            function(maps, score)
    with record_attention(model, gradients=True) as maps:
        model(x)
    for other in (score, score.detach()):
        with pytest.raises(ValueError, match="does not depend on the maps"):
            gradient_rollout(maps, other)


def test_weights_times_gradient_sum_to_what_the_values_do_to_the_score():
    """A score that is linear in the weights is the sum of its weights times their gradient (Euler)."""
    layer, x = nn.MultiheadAttention(12, 3, bias=False, batch_first=True).double(), torch.randn(2, 5, 12).double()
    with record_attention(layer, gradients=True) as maps:
        score = layer(x, x, x, need_weights=False)[0][:, 2].sum(-1)
    (product,) = attention_times_gradient(maps, score).values()
    torch.testing.assert_close(product.sum((1, 2, 3)), score.detach())
    assert not product[:, :, [0, 1, 3, 4]].any()  # rows that the score does not read
    torch.testing.assert_close(product.sum((1, 2, 3)), score)  # the graph is still there: a second score can follow
    attention_times_gradient(maps, 2 * score)


def test_the_gradient_rollout_is_the_recurrence_of_the_paper_row_by_row():
    model, (x,) = randomised(MODELS["vit"]), images()
    with record_attention(model, gradients=True) as maps:
        logits = model(x)
    relevance = gradient_rollout(maps, logits[:, 3])
    first, second = (
        (torch.autograd.grad(logits[:, 3].sum(), a, retain_graph=True)[0] * a).relu().mean(1) for a in maps.values()
    )
    unit = torch.eye(13)
    torch.testing.assert_close(relevance, (unit + second) @ (unit + first))
    alone = torch.cat([gradient_rollout_of(model, x[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(relevance, alone, atol=1e-6, rtol=1e-4)
    seen = see(model, x, gradients=True)
    torch.testing.assert_close(seen.output, logits)
    gaze = seen.gradient_rollout(seen.output[:, 3])
    torch.testing.assert_close(gaze.extra[:, 0], relevance[:, 0, 0])
    torch.testing.assert_close(gaze.places.flatten(1), relevance[:, 0, 1:])
    gaze = seen.gradient_rollout(seen.output[:, 3], at=(13, 29))
    torch.testing.assert_close(gaze.places.flatten(1), relevance[:, 1 + 1 * 3 + 2, 1:])


def gradient_rollout_of(model: nn.Module, x: Tensor) -> Tensor:
    with record_attention(model, gradients=True) as maps:
        logits = model(x)
    return gradient_rollout(maps, logits[0, 3])


@pytest.mark.parametrize("name", OVER_IMAGES)
def test_over_an_image_relevance_grows_with_the_score_from_what_the_places_keep_of_themselves(name):
    """With windows, padding, merged maps and fewer keys."""
    model, (x,) = randomised(MODELS[name]), MODELS[name].inputs()
    seen = see(model, x, gradients=True)
    score = (seen.output if isinstance(seen.output, Tensor) else seen.output[0]).flatten(1).sum(1)
    none, once, twice = (seen.gradient_rollout(factor * score) for factor in (0, 1, 2))
    for less, more in ((none, once), (once, twice)):
        assert (more.places >= less.places - 1e-7).all()
        assert more.places.sum() > less.places.sum()
    *_, last = seen.layers.values()
    path = [layer.placed for layer in seen.layers.values() if _made_from(last.placed.grid, layer.placed.grid)]
    blocks = len({id(places) for places in path})
    unmoved = {n: replace(layer, weights=torch.zeros_like(layer.weights)) for n, layer in seen.layers.items()}
    kept = replace(seen, layers=unmoved).rollout().places * 2**blocks  # each block of a rollout keeps one half
    torch.testing.assert_close(none.places, kept)


@torch.no_grad()
def test_a_row_that_serves_all_queries_acts_by_each_of_them_alike():
    """The unary softmax of one block and the same weights in a row for each query: the score cannot tell them apart."""
    model, (x,) = randomised(MODELS["dnl unary"]), images()
    seen = see(model, x, gradients=True)
    ((name, layer),) = seen.layers.items()
    n = layer.placed.queries.shape[1]
    rows = layer.weights.detach().expand(-1, -1, n, -1).clone().requires_grad_()
    with torch.enable_grad():
        weights = layer.weights.detach().clone().requires_grad_()
        readout = torch.randn(weights.shape[-1])
        one = replace(seen, layers={name: replace(layer, weights=weights)}).gradient_rollout(n * (weights @ readout))
        all_rows = replace(seen, layers={name: replace(layer, weights=rows)}).gradient_rollout(rows @ readout)
    torch.testing.assert_close(one.places, all_rows.places)


def test_a_model_without_dropout_in_training_sees_gradients_in_evaluation():
    model = vit("Ti/16", dropout=0.5, **TINY).train()
    (x,) = images()
    seen = see(model, x, gradients=True)
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(seen.output, model.eval()(x))
