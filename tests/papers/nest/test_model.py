"""NesT against timm, against the authors' counts, and against its own literal equations."""

from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.inspect.attention_maps import see
from attention_notes.nn.attention import attention_weights
from attention_notes.papers.nest import (
    VARIANTS,
    BlockAggregation,
    LocalAttention,
    MultiQueryAttention,
    NesT,
    centred_max_pool,
    max_pool,
    nest,
)
from attention_notes.papers.vit import MeanPooling, PatchEmbedding, SelfAttention, vit
from attention_notes.weights import layouts, to_timm
from tests.papers.nest.foreign import TREE, timms_nest
from tests.weights.parity import CHANNELS, CLASSES

# parameters with a head for 1000 classes, GMACs at 224 pixels; timm has the same parameters
COUNTS = {v: (line["parameters"], line["gmacs"]) for v, line in load_facts("nest")["variants"].items()}
BATCH = 3
POOLS = {"same": max_pool, "": centred_max_pool}  # by timm's names of padding
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
PADDINGS = pytest.mark.parametrize("padding", POOLS)


def randomised(model):
    """Norms start at one, biases at zero: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "positions" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def small(padding="same", **overrides):
    pools = partial(BlockAggregation, pool=POOLS[padding])
    return randomised(nest("nest_t", **{**TREE, "aggregation": pools, **overrides}))


# beside timm


@DTYPES
@PADDINGS
def test_nest_equals_timm_in_outputs_and_gradients(dtype, padding):
    ours, theirs = small(padding).to(dtype), timms_nest(padding).to(dtype)
    layout = layouts(ours)["timm"]
    theirs.load_state_dict(layout.to_theirs(ours), strict=True)
    x = torch.randn(BATCH, CHANNELS, 48, 48, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(y)
    assert close(a, b)
    toward = torch.randn_like(a)
    names = dict(ours.named_parameters())
    got = dict(zip(names, torch.autograd.grad(a, names.values(), toward, retain_graph=True), strict=True))
    got, expected = layout.to_theirs(ours, got), dict(theirs.named_parameters())
    assert got.keys() == expected.keys()
    gradients = torch.autograd.grad(b, expected.values(), toward, retain_graph=True)
    for name, gradient in zip(expected, gradients, strict=True):
        assert gradient.abs().max() > 0, name
        assert close(got[name], gradient), name
    assert close(torch.autograd.grad(a, x, toward)[0], torch.autograd.grad(b, y, toward)[0])


@PADDINGS
def test_maps_equal_those_of_timm(padding):
    ours, theirs = small(padding), timms_nest(padding)
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(2, CHANNELS, 48, 48)
    maps = ours.features(x)
    assert [tuple(f.shape[2:]) for f in maps] == [(24, 24), (12, 12), (6, 6)]
    for a, b in zip(maps, theirs.forward_intermediates(x, intermediates_only=True), strict=True):
        assert close(a, b)


def test_the_two_paddings_are_two_models():
    one, other = small("same"), small("")
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, CHANNELS, 48, 48)
    assert (one(x) - other(x)).abs().max() > 1e-2


def test_the_smallest_equals_timm_at_full_size():
    import timm

    x = torch.randn(1, 3, 224, 224)
    ours, theirs = randomised(nest("nest_t")), timm.create_model("nest_tiny_jx").eval()
    theirs.load_state_dict(to_timm(ours))
    with torch.no_grad():
        assert close(ours(x), theirs(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timms_and_the_macs(variant):
    import timm

    from attention_notes.papers.nest.family import FAMILY

    parameters, gmacs = COUNTS[variant]
    with torch.device("meta"):
        theirs, image = FAMILY.reference(variant).build(), torch.empty(1, 3, 224, 224)
    assert isinstance(theirs, timm.models.nest.Nest)
    assert count_parameters(on_meta(variant)) == parameters == count_parameters(theirs)
    assert round(count_macs(on_meta(variant), image) / 1e9, 2) == gmacs


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return nest(variant, **options)


# at birth


def test_a_model_starts_as_the_authors_code_starts_it():
    """``trunc_normal(stddev=0.02, lower=-2, upper=2)`` of libml/attn_utils.py, and zeros and ones elsewhere."""
    model = nest("nest_t", depths=(1, 1, 1))
    deviation = 0.02 * 0.8796  # of a normal distribution that is cut at two deviations
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert parameter.unique().tolist() == [float("norm" in name and "weight" in name)], name
        else:
            assert parameter.abs().max() <= 0.04, name
            assert parameter.std().item() == pytest.approx(deviation, rel=0.05), name
            assert parameter.mean().abs() < 5 * deviation / parameter.numel() ** 0.5, name
    assert model.reset_head(7).head.weight.abs().max() <= 0.04


def test_stochastic_depth_grows_to_the_rates_of_the_authors_configurations():
    rates = {v: [b.drop_path.p for level in on_meta(v).levels for b in level.blocks] for v in VARIANTS}
    assert [round(r[-1], 6) for r in rates.values()] == [0.2, 0.3, 0.5]
    assert all(r == sorted(r) and r[0] == 0 for r in rates.values())


def test_stochastic_depth_drops_whole_images_and_not_single_blocks():
    block = nest("nest_t", **{**TREE, "drop_path": 0.99}).train().levels[1].blocks[1]
    z = torch.randn(200, 4, 36, 22)
    with torch.no_grad():
        changed = (block(z) != z).flatten(2).any(-1)
    assert (changed.any(1) == changed.all(1)).all()
    assert 0 < changed.any(1).sum() < 200


# blocks


@DTYPES
def test_local_attention_is_its_literal_equations_in_each_block(dtype):
    layer = LocalAttention(14, heads=7).to(dtype)
    z = torch.randn(3, 5, 11, 14, dtype=dtype)
    out, attend = layer(z), layer.attend
    weight, bias = attend.qkv.weight, attend.qkv.bias
    for i in range(5):
        q, k, v = (z[:, i] @ w.T + b for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True))
        heads = [
            attention_weights(*(x[..., 2 * h : 2 * h + 2] for x in (q, k))) @ v[..., 2 * h : 2 * h + 2]
            for h in range(7)
        ]
        assert close(out[:, i], torch.cat(heads, -1) @ attend.output.weight.T + attend.output.bias)


@DTYPES
def test_shared_keys_are_those_of_a_plain_attention_whose_heads_agree(dtype):
    shared, plain = MultiQueryAttention(14, heads=7).to(dtype), SelfAttention(14, heads=7).to(dtype)
    k, v = shared.key_value.weight.detach().chunk(2)
    c, d = shared.key_value.bias.detach().chunk(2)
    plain.qkv.weight.data = torch.cat([shared.query.weight.detach(), k.repeat(7, 1), v.repeat(7, 1)])
    plain.qkv.bias.data = torch.cat([shared.query.bias.detach(), c.repeat(7), d.repeat(7)])
    plain.output.load_state_dict(shared.output.state_dict())
    z = torch.randn(3, 11, 14, dtype=dtype)
    assert close(shared(z), plain(z))


def test_the_published_models_for_cifar_have_six_million_parameters():
    sizes = {"dims": (192,) * 4, "depths": (3,) * 4, "heads": (3,) * 4, "patch": 1, "image_size": 32}
    small_one = on_meta("nest_t", attention=MultiQueryAttention, num_classes=10, **sizes)
    assert count_parameters(small_one) == 6_006_730
    assert [tuple(level.positions.shape[1:3]) for level in small_one.levels] == [(64, 16), (16, 16), (4, 16), (1, 16)]


def test_cutting_into_blocks_by_hand():
    """A map of 4 x 6 tokens in 2 x 2 blocks of 2 x 3, numbered row by row."""
    model = nest("nest_t", dims=(4, 6), depths=(0, 0), heads=(1, 1), patch=7, image_size=(28, 42))
    first = model.levels[0]
    numbers = torch.arange(24.0).view(1, 4, 6, 1)
    blocks = first.cut(numbers)
    assert blocks[0, ..., 0].tolist() == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10, 11],
        [12, 13, 14, 18, 19, 20],
        [15, 16, 17, 21, 22, 23],
    ]
    assert torch.equal(first.join(blocks), numbers)


def test_one_level_is_a_vit_with_the_mean_of_its_tokens():
    options = {"num_classes": CLASSES, "image_size": 12, "patch": 3, "channels": CHANNELS}
    tree = randomised(nest("nest_t", dims=(14,), depths=(2,), heads=(7,), drop_path=0.0, **options))
    flat = vit("Ti/16", dim=14, depth=2, heads=7, hidden=56, pooling=MeanPooling, **options).eval()
    own = {n.removeprefix("levels.0.").replace(".attend", ""): t for n, t in tree.state_dict().items()}
    own["positions"] = own["positions"][:, 0]
    flat.load_state_dict(own)
    x = torch.randn(BATCH, CHANNELS, 12, 12)
    assert close(tree(x), flat(x))


# aggregation


@DTYPES
def test_aggregation_is_its_literal_equation(dtype):
    layer = BlockAggregation(3, to=5).to(dtype)
    for p in layer.parameters():
        nn.init.normal_(p)
    x = torch.randn(2, 4, 6, 3, dtype=dtype)
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    y = torch.stack(
        [
            torch.stack(
                [
                    torch.einsum("bijc,wcij->bw", padded[:, r : r + 3, s : s + 3], layer.convolution.weight)
                    for s in range(6)
                ],
                1,
            )
            for r in range(4)
        ],
        1,
    )
    y = y + layer.convolution.bias
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    y = y * layer.norm.weight + layer.norm.bias
    rows = [torch.stack([y[:, r : r + 3, s : s + 3].amax((1, 2)) for s in range(0, 6, 2)], 1) for r in range(0, 4, 2)]
    assert close(layer(x), torch.stack(rows, 1))


def test_pooling_by_hand():
    """Windows of 3 x 3 at the numbers 0 to 15: they begin at 0 and 2, or at -1 and 1."""
    board = torch.arange(16.0).view(1, 1, 4, 4)
    assert max_pool()(board)[0, 0].tolist() == [[10, 11], [14, 15]]
    assert centred_max_pool()(board)[0, 0].tolist() == [[5, 7], [13, 15]]


def reached(module, z, at):
    z = z.double().requires_grad_()
    module.double()(z)[at].square().sum().backward()
    return z.grad[0].abs().sum(-1) > 0


def test_before_aggregation_nothing_crosses_a_border_and_after_it_does():
    model = small().double()
    first, second = model.levels[:2]
    first.aggregation = nn.Identity()
    z = torch.randn(1, 24, 24, 14)
    block = torch.zeros(24, 24, dtype=torch.bool)
    block[6:12, 12:18] = True
    assert torch.equal(reached(first, z, (0, 7, 13)), block)
    crossing = reached(second.aggregation, z, (0, 5, 5))
    window = torch.zeros(24, 24, dtype=torch.bool)
    window[9:14, 9:14] = True  # 3 x 3 places of a pooling that begins at 10, each of which reads its neighbours
    assert not (crossing & ~window).any()
    assert crossing[9:12, 9:12].any()
    assert crossing[12:14, 12:14].any(), "the borders of blocks lie at 12"


def test_at_the_root_every_pixel_acts_on_the_logits():
    model = small().double()
    x = torch.randn(1, CHANNELS, 48, 48, dtype=torch.float64, requires_grad=True)
    model(x).square().sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).float().mean() > 0.99


# sizes


def test_a_size_that_no_tree_has_is_refused_with_the_nearest(unchecked):
    said = r"232 x 216 pixels, in patches of 4 x 4: a tree of 3 levels has 4 x 4 blocks .* multiples of 16 and 16; "
    with pytest.raises(ValueError, match=said + r"the nearest sizes that fit: 224 x 208 and 240 x 224"):
        nest("nest_t", image_size=(232, 216))
    with pytest.raises(ValueError, match="nearest sizes that fit: 224 x 224 and 240 x 240"):
        nest("nest_t", image_size=225)
    stem = PatchEmbedding(8, image_size=(12, 14), patch=2)
    with pytest.raises(ValueError, match=r"6 x 7 tokens: a tree of 2 .* nearest sizes that fit: 6 x 6 and 6 x 8"):
        NesT(stem, dims=(8, 8), depths=(1, 1), heads=(1, 1), num_classes=2)
    model = small()
    with pytest.raises(ValueError, match="nearest sizes that fit: 48 x 48 and 56 x 48"):
        model.resize((50, 48))
    assert model(torch.randn(1, CHANNELS, 48, 48)).shape == (1, CLASSES), "nothing has changed"


def test_resizing_keeps_the_tree_and_interpolates_positions_on_the_image_plane():
    model = small()
    ramp = torch.linspace(0, 1, 24).view(1, 24, 1, 1).expand(1, 24, 24, 14)
    model.levels[0].positions.data = model.levels[0].cut(ramp).contiguous()
    kept = {n: p for n, p in model.named_parameters() if "positions" not in n}
    model.resize((64, 80))
    assert [tuple(level.positions.shape[1:3]) for level in model.levels] == [(16, 80), (4, 80), (1, 80)]
    table = model.levels[0].join(model.levels[0].positions)[0, ..., 0]
    assert table.shape == (32, 40)
    assert (table.diff(dim=0)[1:-1] > 0).all()
    assert table.std(1).max() < 1e-5
    assert all(p is kept[n] for n, p in model.named_parameters() if n in kept)
    assert model(torch.randn(1, CHANNELS, 64, 80)).shape == (1, CLASSES)


def test_what_is_asked_in_vain_is_refused_by_name(unchecked):
    with pytest.raises(ValueError, match="one of each for every level"):
        nest("nest_t", depths=(2, 2))
    with pytest.raises(ValueError, match="patches have width 8, but the first level has 12"):
        NesT(PatchEmbedding(8, image_size=8, patch=2), dims=(12,), depths=(1,), heads=(1,), num_classes=2)
    with pytest.raises(ValueError, match=r"did you mean 'nest_t'"):
        nest("nest_tt")


# among other people's tools


@PADDINGS
def test_what_is_seen_lies_in_the_block_that_was_asked(padding):
    x = torch.randn(1, CHANNELS, 48, 48)
    seen = see(small(padding), x)
    assert len(seen.layers) == 1 + 2 + 3
    gaze = next(iter(seen.layers.values())).map((15, 26))  # row 7 and column 13 of 24 x 24, blocks of 6 x 6
    assert gaze.places.shape == (1, 7, 24, 24)
    assert (gaze.places[0, 0] > 0).nonzero().amin(0).tolist() == [6, 12]
    assert (gaze.places[0, 0] > 0).nonzero().amax(0).tolist() == [11, 17]
    assert close(gaze.places.sum((-2, -1)), torch.ones(1, 7))
    last = list(seen.layers.values())[-1].map((15, 26))
    assert (last.places > 0).all()
    assert close(seen.rollout().places.sum((-2, -1)), torch.ones(1))


def test_positions_are_not_decayed():
    model = small()
    kept = {p for g in model.parameter_groups(1e-3) if g["weight_decay"] == 0 for p in g["params"]}
    assert all(p in kept for n, p in model.named_parameters() if "positions" in n or p.ndim == 1)
    assert sum(p.ndim > 1 for p in kept) == 3
