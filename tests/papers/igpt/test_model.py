"""iGPT: what it is by its equations, and beside ``transformers``."""

import math

import pytest
import torch
import torch.nn.functional as F

from attention_notes.claims import close
from attention_notes.inspect import count_parameters
from attention_notes.nn.decoding import DecodingState, greedy
from attention_notes.papers.decoding import sample
from attention_notes.papers.gpt import GPT
from attention_notes.papers.igpt import VARIANTS, ImageGPT, QuickGELU, igpt
from attention_notes.weights import layouts
from tests.contract import Case
from tests.contract import randomised as random_case
from tests.papers.igpt.foreign import SIZES, pair, theirs


@pytest.fixture
def model() -> ImageGPT:
    return random_case(Case(lambda: igpt("iGPT-S", **SIZES), tuple)).cpu()


@pytest.fixture
def pixels():
    return torch.randint(23, (5, 17))


def test_later_pixels_change_nothing_before_them(model, pixels):
    other = pixels.clone()
    other[:, 8] = (other[:, 8] + 1) % 23
    one, two = model(model.shifted(pixels)), model(model.shifted(other))
    assert torch.equal(one[:, :9], two[:, :9])
    assert ((one - two)[:, 9:].abs().amax(-1) > 1e-4).all()


def test_the_start_token_stands_before_the_first_pixel_and_the_last_is_not_read(model, pixels):
    read = model.shifted(pixels)
    assert model.start == 23
    assert torch.equal(read[:, 0], torch.full((5,), 23))
    assert torch.equal(read[:, 1:], pixels[:, :-1])


def test_the_loss_is_the_cross_entropy_of_the_pixels_shifted_by_one(model, pixels):
    found = model.log_probabilities(pixels)
    logits = model(torch.cat([torch.full((5, 1), 23), pixels], 1))
    wanted = F.cross_entropy(logits[:, :-1].flatten(0, 1), pixels.flatten(), reduction="none")
    assert close(found.flatten(), -wanted)


def test_the_probabilities_of_all_images_are_one_together():
    model = random_case(Case(lambda: igpt("iGPT-S", **SIZES | {"colours": 3}), tuple)).cpu()
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    assert model.log_probabilities(every).sum(-1).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_one_layer_is_the_papers_equations(pixels):
    model = random_case(Case(lambda: igpt("iGPT-S", **SIZES | {"layers": 1, "heads": 1}), tuple)).cpu()
    layer = model.layers[0]

    def norm(x, gain):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain

    h = model.tokens.weight[pixels] + model.positions.weight[:17]
    n = norm(h, layer.residuals[0].norm.weight)
    q, k, v = (getattr(layer.attention, name)(n) for name in ("query", "key", "value"))
    scores = (q @ k.mT / 30**0.5).masked_fill(torch.ones(17, 17).triu(1) > 0, -torch.inf)
    a = h + layer.attention.output(scores.softmax(-1) @ v)
    hidden = layer.mlp.expand(norm(a, layer.residuals[1].norm.weight))
    h = a + layer.mlp.contract(hidden * (1.702 * hidden).sigmoid())
    assert close(model(pixels), norm(h, model.last.weight) @ model.output.weight.T)


def test_before_training_every_colour_is_equally_likely(pixels):
    found = igpt("iGPT-S", **SIZES).log_probabilities(pixels)
    assert close(found, torch.full_like(found, -math.log(23)))


@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_it_equals_transformers_in_outputs_and_gradients(kind, bound):
    ours, other = (one.to(kind) for one in pair())
    read = torch.randint(24, (5, 17))  # the start token among them
    found, wanted = ours(read), other(read).logits
    assert (found - wanted).abs().max() < bound * wanted.abs().max()
    weight = torch.randn_like(found)
    for out in (found, wanted):
        (out * weight).mean().backward()
    gradients = layouts(ours)["transformers"].to_theirs(ours, {n: p.grad for n, p in ours.named_parameters()})
    parameters = dict(other.named_parameters())
    assert gradients.keys() == parameters.keys()
    for key, parameter in parameters.items():
        assert (gradients[key] - parameter.grad).norm() < bound * max(parameter.grad.norm(), 1e-3), key


def test_the_loss_is_that_of_transformers(pixels):
    ours, other = pair()
    labels = torch.cat([torch.full((5, 1), 23), pixels], 1)
    assert close(-ours.log_probabilities(pixels).mean(), other(labels, labels=labels).loss)


@pytest.mark.parametrize("prompt", [0, 1, 6])
def test_with_a_cache_the_logits_are_those_without(model, pixels, prompt):
    read = model.shifted(pixels)
    whole, state = model(read), model.begin(read[:, :prompt])
    assert isinstance(state, DecodingState)
    for i in range(prompt, 17):
        assert close(state.step(read[:, i]), whole[:, i])


def test_the_likeliest_continuation_is_that_of_transformers(pixels):
    ours, other = pair()
    prompt = ours.shifted(pixels)[:, :6]
    written = ours.greedy(prompt, end=-1, limit=7)
    seen = torch.ones_like(prompt)  # or they take what equals their padding for padding
    generated = other.generate(prompt, attention_mask=seen, max_new_tokens=7, do_sample=False, pad_token_id=0)
    assert torch.equal(written, generated[:, 6:])


def test_a_drawn_continuation_has_pixels_only_and_follows_its_probabilities(model):
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.weight[7] = 50 * model.last(torch.randn(3000, 30)).mean(0)
    first = torch.full((4000,), model.start)
    drawn = sample(model.begin(first[:, None][:, :0]), first, end=-1, limit=1)[:, 0]
    wanted = model(first[:1, None])[0, 0].softmax(-1)
    assert drawn.max() < 23
    assert abs((drawn == 7).float().mean() - wanted[7]) < 0.04
    assert torch.equal(greedy(model.begin(first[:2, None][:, :0]), first[:2], end=-1, limit=1)[0, 0], wanted.argmax())


def test_features_of_a_probe_are_means_of_the_norms_of_each_layer(model, pixels):
    seen = {}
    norms = [layer.residuals[0].norm for layer in model.layers] + [model.last]
    for i, norm in enumerate(norms):
        norm.register_forward_hook(lambda _, __, out, i=i: seen.update({i: out.mean(1)}))
    model(model.shifted(pixels))
    wanted = dict(seen)
    for layer in range(3):
        assert torch.equal(model.probe(pixels, layer=layer), wanted[layer])


def test_gpt_2s_norm_forgets_a_constant_and_this_one_does_not(model):
    x = torch.randn(2, 5, 30)
    other = GPT(23, context=19, layers=1, dim=30, heads=3)
    assert close(other.last(x + 3), other.last(x))
    assert (model.last(x + 3) - model.last(x)).abs().max() > 0.1


# as transformers counts them: with and without the map to logits; section 3.3 says 76M, 455M, 1.4B
COUNTS = {"iGPT-S": 76_682_240, "iGPT-M": 455_489_536, "iGPT-L": 1_362_914_304}
TRUNKS = {"iGPT-S": 76_420_096, "iGPT-M": 454_965_248, "iGPT-L": 1_362_127_872}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_counted_exactly(name):
    import transformers

    row = VARIANTS[name]
    config = transformers.ImageGPTConfig(n_embd=row["dim"], n_layer=row["layers"], n_head=row["heads"])
    with torch.device("meta"):
        model, other = igpt(name), transformers.ImageGPTForCausalImageModeling(config)
    assert count_parameters(model) == count_parameters(other) == COUNTS[name]
    assert count_parameters(other.transformer) == COUNTS[name] - model.output.weight.numel() == TRUNKS[name]


def test_first_weights_have_the_spreads_of_the_released_code():
    """src/model.py of openai/image-gpt at c6af2eb: deviations there, of every tensor."""
    torch.manual_seed(0)
    dim, layers = 96, 8
    model = igpt("iGPT-S", **SIZES | {"dim": dim, "layers": layers, "colours": 211, "context": 97})
    spreads = {"tokens": 0.02, "positions": 0.01, "attention.output": (dim * layers) ** -0.5}
    spreads |= dict.fromkeys((f"attention.{name}" for name in ("query", "key", "value")), dim**-0.5)
    spreads |= {"mlp.expand": 0.02, "mlp.contract": 0.02}
    for name, parameter in model.named_parameters():
        if name == "output.weight" or name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            wanted = next(spread for part, spread in spreads.items() if f"{part}.weight" in name)
            assert abs(parameter.std() - wanted) < 0.06 * wanted, name


def test_dropout_is_off_and_sits_where_it_does_in_transformers():
    assert not [part for part in igpt("iGPT-S", **SIZES).modules() if getattr(part, "p", 0)]
    ours, other = igpt("iGPT-S", **SIZES, dropout=0.1), theirs()
    assert ours.dropout.p == other.transformer.drop.p == 0.1
    for layer, block in zip(ours.layers, other.transformer.h, strict=True):
        assert [residual.dropout.p for residual in layer.residuals] == [0.1, 0.1]
        assert layer.attention.attention_dropout.p == block.attn.attn_dropout.p == 0.1
        assert isinstance(layer.mlp.activation, QuickGELU)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(1, 20, dtype=torch.int64), "a text of 20 tokens, but there are 19 positions.*context=20"),
        (torch.tensor([[0, 24]]), "tokens from 0 to 24, but the vocabulary has 24"),
        (torch.zeros(2, 0, dtype=torch.int64), "an empty text: give at least one token"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_out(model, tokens, words, unchecked):
    with pytest.raises(ValueError, match=words):
        model(tokens)


def test_wrong_options_are_refused(model):
    with pytest.raises(ValueError, match="unknown variant 'iGPT-XL'"):
        igpt("iGPT-XL")
    with pytest.raises(ValueError, match=r"unknown overrides \['vocabulary'\]; known: colours"):
        igpt("iGPT-S", vocabulary=3)
    with pytest.raises(ValueError, match="colours=0: a palette has 1 or more"):
        igpt("iGPT-S", **SIZES | {"colours": 0})
    with pytest.raises(ValueError, match="layer=3: the model has 2, so it is 0 to 2"):
        model.probe(torch.zeros(1, 2, dtype=torch.int64), layer=3)
