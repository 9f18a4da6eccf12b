"""GPT and GPT-2: what they are by their equations, and beside ``transformers``."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close
from attention_notes.inspect import count_parameters
from attention_notes.nn.decoding import DecodingState
from attention_notes.papers.gpt import GPT, VARIANTS, gpt
from attention_notes.papers.transformer import PreNorm
from attention_notes.weights import to_layout
from attention_notes.weights.layouts import Layout
from tests.contract import Case
from tests.contract import randomised as random_case
from tests.papers.gpt.foreign import NAMES, SIZES, pair, theirs

both = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(params=NAMES)
def model(request) -> GPT:
    return random_case(Case(lambda: gpt(request.param, **SIZES), tuple)).cpu()


@pytest.fixture
def text():
    return torch.randint(23, (5, 17))


def test_later_tokens_change_nothing_before_them(model, text):
    other = text.clone()
    other[:, 8:] = (other[:, 8:] + 1) % 23
    one, two = model(text), model(other)
    assert torch.equal(one[:, :8], two[:, :8])
    assert ((one - two)[:, 8:].abs().amax(-1) > 1e-4).all()


def test_every_earlier_token_acts_on_the_last(model, text):
    embedded = model.tokens(text).detach().requires_grad_()
    model.embed = lambda tokens: embedded
    model(text)[:, -1].sum().backward()
    assert (embedded.grad.abs().amax(-1) > 0).all()


def test_without_layers_of_effect_the_next_token_depends_on_this_one_alone(text):
    model = gpt("GPT-2", **SIZES).eval()
    with torch.no_grad():
        for layer in model.layers:
            for end in (layer.attention.output, layer.mlp.contract):
                end.weight.zero_()
    x = model.tokens(text) + model.positions.weight[:17]
    assert close(model(text), F.layer_norm(x, (30,)) @ model.tokens.weight.T)


def test_one_layer_is_the_papers_equations(text):
    model = random_case(Case(lambda: gpt("GPT", **SIZES | {"layers": 1, "heads": 1}), tuple)).cpu()
    layer = model.layers[0]
    h = model.tokens.weight[text] + model.positions.weight[:17]
    q, k, v = (getattr(layer.attention, name)(h) for name in ("query", "key", "value"))
    scores = (q @ k.mT / 30**0.5).masked_fill(torch.ones(17, 17).triu(1) > 0, -torch.inf)
    h = layer.residuals[0].norm(h + layer.attention.output(scores.softmax(-1) @ v))
    gelu = F.gelu(layer.mlp.expand(h), approximate="tanh")
    h = layer.residuals[1].norm(h + layer.mlp.contract(gelu))
    assert close(model(text), h @ model.tokens.weight.T)


@both
@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_both_equal_transformers_in_outputs_and_gradients(name, kind, bound, text):
    ours, other = (one.to(kind) for one in pair(name))
    found, wanted = ours(text), other(text).logits
    assert (found - wanted).abs().max() < bound * wanted.abs().max()
    weight = torch.randn_like(found)
    for out in (found, wanted):
        (out * weight).mean().backward()
    layout = "transformers, GPT" if name == "GPT" else "transformers"
    gradients = _named(ours, layout)
    parameters = dict(other.named_parameters())
    assert gradients.keys() == parameters.keys()
    for key, parameter in parameters.items():
        assert (gradients[key] - parameter.grad).norm() < bound * max(parameter.grad.norm(), 1e-3), key


def _named(model: GPT, layout: str) -> dict[str, torch.Tensor]:
    """The gradients by the names of ``transformers``."""
    from attention_notes.weights import layouts

    known: Layout = layouts(model)[layout]
    return known.to_theirs(model, {name: parameter.grad for name, parameter in model.named_parameters()})


@pytest.mark.parametrize("prompt", [0, 1, 6])
def test_with_a_cache_the_logits_are_those_without(model, text, prompt):
    whole = model(text)
    state = model.begin(text[:, :prompt])
    assert isinstance(state, DecodingState)
    for i in range(prompt, 17):
        assert close(state.step(text[:, i]), whole[:, i])


def test_texts_can_be_reordered_and_repeated(model, text):
    rows = torch.tensor([3, 0, 3])
    state, again = model.begin(text[:, :6]), model.begin(text[rows][:, :6])
    state.reorder(rows)
    assert close(state.step(text[rows, 6]), again.step(text[rows, 6]))


def test_an_empty_state_can_be_reordered(model, text):
    state = model.begin(text[:, :0])
    state.reorder(torch.tensor([2, 1]))
    assert close(state.step(text[[2, 1], 0]), model(text[[2, 1], :1])[:, 0])


def test_greedy_goes_on_with_the_likeliest_token(model, text):
    written = model.greedy(text[:, :4], end=-1, limit=5)
    so_far = text[:, :4]
    for _ in range(5):
        so_far = torch.cat([so_far, model(so_far)[:, -1:].argmax(-1)], 1)
    assert torch.equal(written, so_far[:, 4:])


def test_gpt_2_continues_as_transformers_generates(text):
    ours, other = pair("GPT-2")
    prompt = text[:, :4]
    generated = other.generate(prompt, max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(ours.greedy(prompt, end=-1, limit=5), generated[:, 4:])


# facts: GPT and GPT-2 as transformers counts them; the papers say 117M (the sizes of Table 2 of GPT-2 were corrected)
COUNTS = {
    "GPT": 116_534_784,
    "GPT-2": 124_439_808,
    "GPT-2 medium": 354_823_168,
    "GPT-2 large": 774_030_080,
    "GPT-2 XL": 1_557_611_200,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_counted_exactly(name):
    with torch.device("meta"):
        assert count_parameters(gpt(name)) == COUNTS[name]


@both
def test_first_weights_have_the_spreads_of_transformers(name):
    torch.manual_seed(0)
    ours, other = gpt(name, **SIZES | {"dim": 96, "layers": 8}), theirs(name, n_embd=96, n_layer=8)
    layout = "transformers, GPT" if name == "GPT" else "transformers"
    mine, parameters = to_layout(ours, layout), dict(other.named_parameters())
    for key, parameter in parameters.items():
        spread, wanted = mine[key].std(), parameter.std()
        assert abs(spread - wanted) <= 0.12 * wanted, key
        assert parameter.ndim == 2 or torch.equal(mine[key], parameter), key
    factor = mine[f"transformer.h.{3}.mlp.c_proj.weight"].std() / 0.02
    assert abs(factor - (1.0 if name == "GPT" else 0.25)) < 0.02


@both
def test_dropout_sits_where_it_does_in_transformers(name):
    ours, other = gpt(name, **SIZES), theirs(name)
    assert ours.dropout.p == other.transformer.drop.p == 0.1
    for layer, block in zip(ours.layers, other.transformer.h, strict=True):
        assert [residual.dropout.p for residual in layer.residuals] == [0.1, 0.1]
        assert layer.attention.attention_dropout.p == block.attn.attn_dropout.p == 0.1
        assert layer.mlp.dropout.p == 0


def test_only_gpt_2_ends_with_a_norm():
    assert isinstance(gpt("GPT", **SIZES).last, nn.Identity)
    assert isinstance(gpt("GPT-2", **SIZES).last, nn.LayerNorm)
    assert isinstance(gpt("GPT", **SIZES, residual=PreNorm).last, nn.LayerNorm)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(1, 20, dtype=torch.int64), "a text of 20 tokens, but there are 19 positions.*context=20"),
        (torch.tensor([[0, 23]]), "tokens from 0 to 23, but the vocabulary has 23.*a vocabulary of 24 tokens"),
        (torch.zeros(2, 0, dtype=torch.int64), "an empty text: give at least one token"),
        (torch.zeros(7, dtype=torch.int64), r"shape \(7,\).*tokens\[None\]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_out(model, tokens, words, unchecked):
    with pytest.raises(ValueError, match=words):
        model(tokens)


def test_a_text_that_grows_too_long_is_refused(model, text):
    state = model.begin(text)
    state.step(text[:, 0])
    state.step(text[:, 0])
    with pytest.raises(ValueError, match="a text of 20 tokens, but there are 19 positions"):
        state.step(text[:, 0])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="unknown variant 'GPT-3'"):
        gpt("GPT-3")
    with pytest.raises(ValueError, match=r"unknown overrides \['depth'\]; known: .*layers"):
        gpt("GPT", depth=3)
    with pytest.raises(ValueError, match="layers=0"):
        gpt("GPT", **SIZES | {"layers": 0})
    with pytest.raises(ValueError, match="an empty prompt"):
        gpt("GPT", **SIZES).greedy(torch.zeros(1, 0, dtype=torch.int64), end=0, limit=1)
