"""Disentangled non-local blocks against loops over positions, against their parent, and against their own algebra."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.papers.dnl import (
    DNL,
    VARIANTS,
    Added,
    Coupled,
    Disentangled,
    DNLNet,
    Multiplied,
    Pairwise,
    Unary,
    dnl,
    pairwise_term,
    unary_term,
    whitened,
)
from attention_notes.papers.non_local import NonLocal
from attention_notes.papers.resnet import ResNet, basic

# every dimension another prime: 3 maps of 11 channels and 5 x 7 positions, queries of width 2
BATCH, CHANNELS, MAP, N, INNER, SCALE = 3, 11, (5, 7), 35, 2, 1.7
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
WIDE = {"inner": INNER, "scale": SCALE}
KINDS = {
    "disentangled": partial(Disentangled, **WIDE),
    "coupled": partial(Coupled, **WIDE),
    "multiplied": partial(Multiplied, **WIDE),
    "added": partial(Added, **WIDE),
    "pairwise": partial(Pairwise, **WIDE),
    "unary": Unary,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def block(kind="disentangled", dtype=torch.float64):
    """A block whose parameters are all random: its weights start small, its gamma and bias at zero."""
    model = DNL(CHANNELS, attention=KINDS[kind]).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.3, std=0.4)
    return model


def maps(dtype=torch.float64, batch=BATCH):
    return torch.randn(batch, CHANNELS, *MAP, dtype=dtype)


def shares(scores):
    """Softmax of a list of numbers, written out."""
    powers = [s.exp() for s in scores]
    return [p / sum(powers) for p in powers]


def literal(kind, p, x):
    """The paper's equations for one map ``c n``, position by position; ``p`` has the parameters by their last names."""
    n = x.shape[1]
    bias = p.get("query.bias", 0)
    q = [p["query.weight"] @ x[:, i] + bias for i in range(n)] if "query.weight" in p else None
    k = [p["key.weight"] @ x[:, j] for j in range(n)] if "key.weight" in p else None
    m = [(p["saliency.weight"] @ x[:, j]).sum() for j in range(n)] if "saliency.weight" in p else None
    columns = []
    for i in range(n):
        if q is not None:
            mu_q, mu_k = sum(q) / n, sum(k) / n
            plain = [SCALE * (q[i] @ k[j]) for j in range(n)]
            pair = [SCALE * ((q[i] - mu_q) @ (k[j] - mu_k)) for j in range(n)]
            shared = [mu_q @ k[j] for j in range(n)]  # the scale is for the pairs
        if kind == "disentangled":
            w = [p["gamma"] * a + b for a, b in zip(shares(pair), shares(m), strict=True)]
        elif kind == "added":
            w = [p["gamma"] * a + b for a, b in zip(shares(pair), shares(shared), strict=True)]
        elif kind == "multiplied":
            w = shares([a + b for a, b in zip(pair, m, strict=True)])
        else:
            w = shares({"coupled": plain, "pairwise": pair}[kind] if kind != "unary" else m)
        columns.append(x[:, i] + sum(w[j] * (p["value.weight"] @ x[:, j]) for j in range(n)))
    return torch.stack(columns, dim=1)


@DTYPES
@every_kind
def test_outputs_and_gradients_equal_loops_over_positions(kind, dtype):
    model, x = block(kind, dtype), maps(dtype, batch=2)[..., :3].requires_grad_()
    p = {
        "gamma" if name.endswith("gamma") else ".".join(name.split(".")[-2:]): t for name, t in model.named_parameters()
    }
    ours = model(x)
    theirs = torch.stack([literal(kind, p, one.flatten(1)) for one in x]).unflatten(2, (MAP[0], 3))
    assert close(ours, theirs)
    toward = torch.randn_like(ours)
    every = [x, *model.parameters()]
    got, expected = (torch.autograd.grad(out, every, toward, retain_graph=True) for out in (ours, theirs))
    for a, b in zip(got, expected, strict=True):
        assert b.abs().max() > 1e-3
        assert close(a, b)


@DTYPES
def test_the_weights_of_a_dot_product_split_into_a_whitened_and_a_unary_term(dtype):
    q, k = torch.randn(2, 7, 3, dtype=dtype), torch.randn(2, 13, 3, dtype=dtype) + 0.5
    split = (pairwise_term(q, k) + unary_term(q, k)[..., None, :]).softmax(-1)
    assert close(split, (q @ k.mT).softmax(-1))


def test_the_four_terms_of_the_scores_with_their_signs():
    q, k = torch.randn(7, 3).double() + 1, torch.randn(13, 3).double() + 1
    of_query, constant = q @ k.mean(0), q.mean(0) @ k.mean(0)
    assert close(pairwise_term(q, k) + unary_term(q, k) + of_query[:, None] - constant, q @ k.mT)
    assert not close(pairwise_term(q, k) + unary_term(q, k) + of_query[:, None] + constant, q @ k.mT)


def test_the_pairwise_term_sums_to_zero_and_the_unary_term_is_the_mean_over_queries():
    q, k = torch.randn(2, 7, 3).double() + 1, torch.randn(2, 13, 3).double() + 1
    pairs = pairwise_term(q, k)
    assert close(pairs.sum(-1), torch.zeros(2, 7).double())
    assert close(pairs.sum(-2), torch.zeros(2, 13).double())
    assert close(unary_term(q, k), (q @ k.mT).mean(-2))
    assert close(whitened(q).mean(-2), torch.zeros(2, 3).double())


def test_two_positions_by_hand():
    """Queries 1 and 3, keys 0 and ln 2: whitened scores are ±ln(2)/2, and the mean query 2 wants the second key."""
    q, k = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [math.log(2)]])
    half = math.log(2) / 2
    torch.testing.assert_close(pairwise_term(q, k), torch.tensor([[half, -half], [-half, half]]))
    torch.testing.assert_close(unary_term(q, k), torch.tensor([0.0, math.log(4)]))
    together = (pairwise_term(q, k) + unary_term(q, k)).softmax(-1)
    torch.testing.assert_close(together, torch.tensor([[1 / 3, 2 / 3], [1 / 9, 8 / 9]]))


@DTYPES
def test_the_coupled_block_is_the_non_local_block(dtype):
    parent = NonLocal(CHANNELS, inner=INNER, batch_norm=False).to(dtype)
    for parameter in parent.parameters():
        nn.init.normal_(parameter, std=0.5)
    parent.g.bias.data.zero_()
    parent.output.bias.data.zero_()
    ours = DNL(CHANNELS, attention=partial(Coupled, inner=INNER)).to(dtype)
    ours.attention.query.weight.data = parent.theta.weight.data.flatten(1)
    ours.attention.query.bias.data = parent.theta.bias.data
    ours.attention.key.weight.data = parent.phi.weight.data.flatten(1)  # its bias changes nothing
    ours.value.weight.data = parent.output.weight.data.flatten(1) @ parent.g.weight.data.flatten(1)
    x = maps(dtype)
    assert parent.phi.bias.abs().max() > 0.1
    assert close(ours(x), parent(x))


def test_multiplied_by_the_unary_term_that_it_replaces_it_is_coupled_again():
    multiplied, coupled, x = block("multiplied"), block("coupled"), maps(batch=1)
    tokens = x.flatten(2).mT
    for name in ("query", "key"):
        getattr(multiplied.attention.pairwise, name).weight.data = getattr(coupled.attention, name).weight.data
    multiplied.value.weight.data = coupled.value.weight.data
    wanted = coupled.attention.query(tokens).mean(1) * SCALE
    multiplied.attention.saliency.weight.data = wanted @ coupled.attention.key.weight.data
    assert close(multiplied(x), coupled(x))


@pytest.mark.parametrize("kind", ["added", "disentangled"])
def test_the_scale_is_for_the_pairs_alone(kind):
    """The authors' configurations divide pairwise scores by a small temperature; it must not sharpen the unary map."""
    x, maps_of = maps(), []
    for scale in (1.0, 20.0):
        torch.manual_seed(0)
        model = DNL(CHANNELS, attention=partial(KINDS[kind].func, inner=INNER, scale=scale)).double()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
        nn.init.zeros_(model.attention.gamma)  # the unary half alone
        maps_of.append(model(x))
        model.attention.gamma.data.fill_(1.0)
        maps_of.append(model(x))
    assert torch.equal(maps_of[0], maps_of[2])
    assert not close(maps_of[1], maps_of[3])


@every_kind
def test_weights_sum_to_one_for_each_softmax_and_in_all_to_one_plus_gamma(kind):
    model, x = block(kind), maps()
    with record_attention(model) as recorded:
        model(x)
    for weights in recorded.values():
        assert weights.shape[:2] == (BATCH, 1)
        assert weights.shape[-1] == N
        assert close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    values = torch.ones(BATCH, N, CHANNELS).double()
    total = model.attention(x.flatten(2).mT, values)
    expected = 1 + model.attention.gamma if kind in ("disentangled", "added") else torch.ones(1)
    assert close(total, (expected * torch.ones_like(total)).double())


def test_recorded_are_a_map_for_each_query_and_one_for_all_of_them():
    model, x = block(), maps()
    with record_attention(model) as recorded:
        model(x)
    assert {name: w.shape for name, w in recorded.items()} == {
        "attention.pairwise": (BATCH, 1, N, N),
        "attention.unary": (BATCH, 1, 1, N),
    }
    tokens = x.flatten(2).mT
    term, saliency = model.attention.pairwise, model.attention.unary.saliency
    pairs = SCALE * pairwise_term(term.query(tokens), term.key(tokens))
    assert close(recorded["attention.pairwise"][:, 0], pairs.softmax(-1))
    assert close(recorded["attention.unary"][:, 0, 0], saliency(tokens)[..., 0].softmax(-1))


def test_biases_that_are_left_out_would_change_nothing():
    model, x = block(), maps()
    before = model(x)
    for layer in (model.attention.pairwise.query, model.attention.pairwise.key, model.attention.unary.saliency):
        layer.bias = nn.Parameter(torch.randn(layer.out_features).double())
    assert close(model(x), before)
    coupled = block("coupled")
    before = coupled(x)
    coupled.attention.key.bias = nn.Parameter(torch.randn(INNER).double())
    assert close(coupled(x), before)
    coupled.attention.query.bias.data += 1
    assert not close(coupled(x), before)


def test_the_bias_of_a_non_local_query_acts_on_the_unary_term_only():
    model, tokens = block("coupled").attention, maps().flatten(2).mT
    q, k, moved = model.query(tokens), model.key(tokens), model.query(tokens) + torch.randn(INNER).double()
    assert close(pairwise_term(moved, k), pairwise_term(q, k))
    assert not close(unary_term(moved, k), unary_term(q, k))


@every_kind
def test_positions_are_a_set_on_a_line_an_image_and_a_clip_alike(kind):
    model, x = block(kind), maps()
    order, line = torch.randperm(N), x.flatten(2)
    assert close(model(line).unflatten(2, MAP), model(x))
    assert close(model(line[..., order]), model(line)[..., order])
    assert close(model(line.unflatten(2, (5, 1, 7))), model(x)[:, :, :, None])


@every_kind
def test_with_one_position_every_softmax_is_one(kind):
    model, x = block(kind), torch.randn(BATCH, CHANNELS, 1, 1).double()
    times = 1 + model.attention.gamma if kind in ("disentangled", "added") else 1
    value = F.conv2d(x, model.value.weight[..., None, None])
    assert close(model(x), x + times * value)


def test_where_all_queries_are_equal_the_pairwise_term_averages_and_the_unary_term_is_all():
    model, tokens = block("coupled").attention, maps().flatten(2).mT
    model.query.weight.data.zero_()
    q, k = model.query(tokens), model.key(tokens)
    assert close(pairwise_term(q, k), torch.zeros(BATCH, N, N).double())
    assert close((q @ k.mT).softmax(-1), unary_term(q, k)[:, None].softmax(-1).expand(BATCH, N, N))


def saliency_gradient(kind, x, sharpness):
    """How a fixed sum of the outputs changes with W_m, while the queries grow."""
    torch.manual_seed(1)
    model = block(kind)
    part = model.attention.pairwise
    part.query.weight.data *= sharpness
    saliency = (model.attention.unary if kind == "disentangled" else model.attention).saliency.weight
    toward = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    return torch.autograd.grad(model(x), saliency, toward)[0]


def test_adding_lets_the_unary_gradient_alone_and_multiplying_does_not():
    x = maps()
    soft, sharp = (saliency_gradient("disentangled", x, s) for s in (1, 20))
    assert torch.equal(soft, sharp)
    soft, sharp = (saliency_gradient("multiplied", x, s) for s in (1, 20))
    assert (soft - sharp).norm() > 0.1 * soft.norm()


def test_a_new_block_starts_without_its_pairwise_half_but_not_without_its_unary_half():
    model, x = DNL(CHANNELS, attention=KINDS["disentangled"]).double(), maps()
    assert not model.attention.gamma.any()
    tokens = x.flatten(2).mT
    value = model.value(tokens)
    assert close(model(x), x + model.attention.unary(tokens, value).mT[..., None])
    assert (model(x) - x).abs().max() > 1e-6
    assert model.value.weight.std().item() == pytest.approx(0.01, rel=0.2)


@every_kind
def test_no_block_holds_a_number_for_every_pair(kind):
    model, x = block(kind, torch.float32), torch.randn(1, CHANNELS, 31, 37, requires_grad=True)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        model(x)
    assert max(held) <= 2 * CHANNELS * 31 * 37


def test_parameters_and_cost_follow_from_the_equations():
    linear = {"value": CHANNELS**2, "query and key": 2 * INNER * CHANNELS, "saliency": CHANNELS, "gamma": 1}
    assert count_parameters(block()) == sum(linear.values())
    assert count_parameters(block("coupled")) == CHANNELS**2 + 2 * INNER * CHANNELS + INNER
    maps_cost = N * (CHANNELS**2 + 2 * INNER * CHANNELS + CHANNELS)
    pairs = 2 * N * N * CHANNELS  # queries and keys are widened with zeros to the values' width
    assert count_macs(block(dtype=torch.float32), maps(torch.float32, batch=1)) == maps_cost + pairs + 2 * N * CHANNELS


PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("dnl")["variants"].items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_parameters_that_its_parts_have_and_a_map_of_stride_8(variant):
    with torch.device("meta"):
        model = dnl(variant)
        backbone = model.backbone
        images = torch.empty(1, 3, 64, 96)
        assert backbone.features(images)[-1].shape == (1, 2048, 8, 12)
        assert model(images).shape == (1, 19, 64, 96)
    convolutions = 9 * 512 * (2048 + 512 + 2048 + 512) + 3 * 2 * 512
    block_ = 512 * (512 + 2 * 256 + 1) + 1
    assert count_parameters(model) == PARAMETERS[variant]
    assert PARAMETERS[variant] == count_parameters(backbone) + convolutions + block_ + 19 * 513


def test_the_network_concatenates_what_the_backbone_and_the_block_say():
    backbone = ResNet(basic, depths=(1,), width=8, dilations=(1,))
    model = DNLNet(backbone, num_classes=5, dim=6, block=partial(DNL, attention=KINDS["disentangled"])).eval()
    images = torch.randn(2, 3, 20, 28)
    f = backbone.features(images)[-1]
    u = model.convolution(model.block(model.reduce(f)))
    small = model.classify(model.bottleneck(torch.cat([f, u], dim=1)))
    assert small.shape == (2, 5, 5, 7)
    assert close(model(images), F.interpolate(small, size=(20, 28), mode="bilinear"))
    assert DNLNet(backbone, num_classes=5, dim=6, block=lambda _: nn.Identity()).eval()(images).shape == (2, 5, 20, 28)


def test_bad_sizes_and_names_are_refused(unchecked):
    with pytest.raises(ValueError, match="a map of 7 channels, but the block was built for 11"):
        block()(torch.randn(1, 7, 3, 3).double())
    with pytest.raises(ValueError, match="unknown variant 'resnet18'; known: resnet50, resnet101"):
        dnl("resnet18")
