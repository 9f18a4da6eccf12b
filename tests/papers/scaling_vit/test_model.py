"""The scaled ViTs against timm, against the published counts, and against their own literal equations."""

from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts, rounds_to
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.inspect.attention_maps import see
from attention_notes.nn.attention import attention_weights
from attention_notes.papers.layer_norm import RMSNorm
from attention_notes.papers.scaling_vit import (
    VARIANTS,
    AttentionPooling,
    NormalisedAttention,
    ParallelBlock,
    ScalingViT,
    scale_norm,
    scaling_vit,
)
from attention_notes.papers.scaling_vit.family import wide_reference
from attention_notes.papers.vit import Block, ClassToken, MeanPooling, PatchEmbedding, SelfAttention
from attention_notes.weights import layouts, to_timm

PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("scaling_vit")["variants"].items()}
GMACS = {variant: line["gmacs"] for variant, line in load_facts("scaling_vit")["variants"].items()}
# Zhai et al. 2021, table 2: millions of parameters, and GFLOPs at 224 pixels
TABLE_2 = {
    "s/28": ("5.4M", "0.7G"),
    "s/16": ("5.0M", "2.2G"),
    "S/32": ("22M", "2.3G"),
    "Ti/16": ("5.5M", "2.5G"),
    "B/32": ("87M", "8.7G"),
    "S/16": ("22M", "9.2G"),
    "B/28": ("87M", "11.3G"),
    "B/16": ("86M", "35.1G"),
    "L/16": ("303M", "122.9G"),
    "g/14": ("1011M", "533.1G"),
    "G/14": ("1843M", "965.3G"),
}

# every dimension another prime: images 11 channels of 10 x 21, cut 2 x 3 into a grid of 5 x 7
CHANNELS, IMAGE, PATCH, PATCHES = 11, (10, 21), (2, 3), 35
HEADS, DIM, HIDDEN, DEPTH, CLASSES, BATCH = 13, 13 * 17, 19, 2, 23, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
LARGE = {"block": ParallelBlock, "attention": NormalisedAttention, "qkv_bias": False, "norm": scale_norm}


def small(**overrides):
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    sizes = {"depth": DEPTH, "heads": HEADS, "hidden": HIDDEN, "num_classes": CLASSES}
    return randomised(ScalingViT(patches, **(sizes | overrides))).eval()


def randomised(model):
    """Norms start at one, biases at zero: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "positions" in name or "token" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
    return model


def images(dtype=torch.float32, batch=BATCH):
    return torch.randn(batch, CHANNELS, *IMAGE, dtype=dtype)


def timms(kind):
    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    sizes = {"img_size": IMAGE, "patch_size": PATCH, "in_chans": CHANNELS, "embed_dim": DIM, "depth": DEPTH}
    sizes |= {"num_heads": HEADS, "mlp_ratio": HIDDEN / DIM + 1e-9, "num_classes": CLASSES}
    sizes |= {"global_pool": "map", "class_token": False}
    if kind == "22B":
        norm = partial(nn.LayerNorm, eps=1e-6, bias=False)
        sizes |= {"block_fn": ParallelScalingBlock, "qkv_bias": False, "qk_norm": True, "norm_layer": norm}
    return VisionTransformer(**sizes)


@DTYPES
@pytest.mark.parametrize(("kind", "options"), [("G", {}), ("22B", LARGE)])
def test_outputs_and_gradients_equal_those_of_timm(dtype, kind, options):
    ours, theirs = small(**options).to(dtype), timms(kind).to(dtype).eval()
    theirs.load_state_dict(to_timm(ours), strict=True)
    x = images(dtype).requires_grad_()
    a, b = ours(x), theirs(x)
    assert a.shape == (BATCH, CLASSES)
    assert close(a, b)
    toward = torch.randn_like(a)
    names = dict(ours.named_parameters())
    got = torch.autograd.grad(a, [x, *names.values()], toward)
    assert close(got[0], torch.autograd.grad(b, x, toward, retain_graph=True)[0])
    got = layouts(ours)["timm"].to_theirs(ours, dict(zip(names, got[1:], strict=True)))
    expected = dict(theirs.named_parameters())
    assert got.keys() == expected.keys()
    gradients = torch.autograd.grad(b, [expected[name] for name in got], toward)
    for name, gradient in zip(got, gradients, strict=True):
        assert close(got[name], gradient), name
        assert gradient.abs().max() > 0, name


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return scaling_vit(variant, **options).eval()


@cache
def cost(variant, **options):
    """Multiply-accumulates of one layer and all around it, and of each further layer; to count 48 takes two seconds."""
    pictures = torch.empty(1, 3, 224, 224, device="meta")
    one, two = (count_macs(on_meta(variant, depth=depth, **options), pictures) for depth in (1, 2))
    return one + (VARIANTS[variant]["depth"] - 1) * (two - one)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timm(variant):
    with torch.device("meta"):
        theirs = wide_reference(variant).build()
    assert count_parameters(on_meta(variant)) == PARAMETERS[variant] == count_parameters(theirs)


@pytest.mark.parametrize(("variant", "gmacs"), GMACS.items())
def test_the_cost_is_that_of_the_table(variant, gmacs):
    assert round(cost(variant) / 1e9, 2) == gmacs


def trunk(variant):
    """The same without a pooling that has parameters, and without a head."""
    return on_meta(variant, pooling=MeanPooling, num_classes=None)


@pytest.mark.parametrize(("variant", "printed"), TABLE_2.items())
def test_table_2_counts_neither_the_pooling_nor_the_head(variant, printed):
    """Its GFLOPs count two for a multiply-accumulate, and lie between those without and with the pooling."""
    assert rounds_to(count_parameters(trunk(variant)), printed[0])
    flops = [2 * cost(variant, num_classes=None, **reads) for reads in ({"pooling": MeanPooling}, {})]
    digit = 0.05e9
    assert flops[0] - digit <= float(printed[1][:-1]) * 1e9 <= flops[1] + digit


def test_the_headless_counts_of_the_large_ones():
    millions = [round(count_parameters(trunk(variant)) / 1e6, 1) for variant in ("g/14", "G/14", "e/14", "22B/14")]
    assert millions == [1011.2, 1842.8, 3805.4, 21750.5]


def test_the_weights_start_as_in_the_authors_code():
    """big_vision, models/vit.py at commit 0127fb6: Glorot's uniform for every map, and for the probe as one column."""
    model = scaling_vit("G/14", dim=384, depth=1, heads=6, hidden=1536)
    block, pooling = model.blocks[0], model.pooling
    maps = [*block.attention.qkv.weight.chunk(3), block.attention.output.weight, block.mlp.expand.weight]
    maps += [block.mlp.contract.weight, pooling.mlp.expand.weight, pooling.mlp.contract.weight]
    maps += [getattr(pooling.attention, name).weight for name in ("query", "key", "value", "output")]
    for weight in (*maps, pooling.token[0]):
        limit = (6 / sum(weight.shape)) ** 0.5
        assert 0.95 * limit < weight.abs().max() <= limit
        assert abs(weight.std() / (limit / 3**0.5) - 1) < 8 / weight.numel() ** 0.5
    assert abs(model.positions.std() * 384**0.5 - 1) < 8 / model.positions.numel() ** 0.5
    assert (
        abs(model.patches.projection.weight.std() * 588**0.5 - 1) < 8 / model.patches.projection.weight.numel() ** 0.5
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name


def test_the_22b_has_biases_in_its_perceptrons_and_outputs_and_in_no_norm_and_no_query_key_or_value():
    blocks = on_meta("22B/14").blocks
    names = {name.partition(".")[2] for name, _ in blocks.named_parameters() if name.endswith("bias")}
    assert names == {"attention.output.bias", "mlp.expand.bias", "mlp.contract.bias"}
    assert on_meta("22B/14").norm.bias is None
    assert blocks[0].attention.query_norm.weight.shape == (128,)


# the pooling


@DTYPES
def test_the_pooling_is_its_equations_written_out(dtype):
    pooling = randomised(AttentionPooling(10, heads=5, hidden=11)).to(dtype)
    z = torch.randn(2, 7, 10, dtype=dtype, requires_grad=True)
    asking = pooling.attention
    q, k, v = asking.query(pooling.token)[0, 0], asking.key(z), asking.value(z)
    found = []
    for part in range(0, 10, 2):
        a, b, c = (t[..., part : part + 2] for t in (q, k, v))
        weights = (b @ a / 2**0.5).softmax(-1)
        found.append((weights[..., None] * c).sum(1))
    u = asking.output(torch.cat(found, -1))
    spread = u.var(-1, correction=0, keepdim=True)
    normal = (u - u.mean(-1, keepdim=True)) / (spread + 1e-6).sqrt() * pooling.mlp_norm.weight + pooling.mlp_norm.bias
    mlp = pooling.mlp
    expected = u + F.gelu(normal @ mlp.expand.weight.T + mlp.expand.bias) @ mlp.contract.weight.T + mlp.contract.bias
    out = pooling(z)
    assert close(out, expected)
    toward = torch.randn_like(out)
    wanted = [z, *pooling.parameters()]
    pairs = zip(*(torch.autograd.grad(o, wanted, toward, retain_graph=True) for o in (out, expected)), strict=True)
    assert all(close(a, b) for a, b in pairs)


def test_the_pooling_sees_no_order_and_no_number_of_tokens():
    pooling, z = randomised(AttentionPooling(10, heads=5, hidden=11)), torch.randn(2, 7, 10)
    assert close(pooling(z[:, torch.randperm(7)]), pooling(z))
    assert close(pooling(torch.cat([z, z], 1)), pooling(z))


def test_a_probe_without_queries_takes_the_mean():
    pooling, z = randomised(AttentionPooling(10, heads=5, hidden=11)), torch.randn(2, 7, 10)
    nn.init.zeros_(pooling.attention.query.weight)
    nn.init.zeros_(pooling.attention.query.bias)
    u = pooling.attention.output(pooling.attention.value(z.mean(1)))
    assert close(pooling(z), u + pooling.mlp(pooling.mlp_norm(u)))


def test_the_pooling_costs_its_formula_and_grows_linearly_with_the_tokens():
    with torch.device("meta"):
        pooling = AttentionPooling(384, heads=6, hidden=1536)
        costs = [count_macs(pooling, torch.empty(1, n, 384)) for n in (256, 257)]
    assert count_parameters(pooling) == 4 * 384**2 + 2 * 384 * 1536 + 8 * 384 + 1536
    assert costs[1] - costs[0] == 2 * 384**2 + 2 * 384
    assert costs[0] == 256 * (2 * 384**2 + 2 * 384) + 2 * 384**2 + 2 * 384 * 1536


def test_without_a_class_token_the_trunk_is_the_mean_pooled_vit():
    from attention_notes.papers.vit import VisionTransformer

    ours = small(pooling=MeanPooling)
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    plain = VisionTransformer(
        patches, depth=DEPTH, heads=HEADS, hidden=HIDDEN, num_classes=CLASSES, pooling=MeanPooling
    ).eval()
    plain.load_state_dict(ours.state_dict())
    x = images()
    assert torch.equal(ours(x), plain(x))


# queries and keys


def largest(q, k):
    """The largest score of a head, of any query and key."""
    return (q @ k.mT / q.shape[-1] ** 0.5).abs().amax().item()


def scores(module, z):
    """Queries and keys of a module as its softmax is given them."""
    q, k, _ = module.qkv(z).unflatten(2, (3, module.heads, -1)).permute(2, 0, 3, 1, 4)
    if isinstance(module, NormalisedAttention):
        q, k = module.query_norm(q), module.key_norm(k)
    return q, k


@DTYPES
def test_normalised_attention_is_its_equation_head_by_head(dtype):
    module = randomised(NormalisedAttention(10, heads=2, qkv_bias=False)).to(dtype)
    z = torch.randn(2, 7, 10, dtype=dtype, requires_grad=True)
    q, k, v = module.qkv(z).unflatten(2, (3, 2, 5)).permute(2, 3, 0, 1, 4)
    out, kept = [], []
    for a, b, c in zip(q, k, v, strict=True):
        a, b = (
            (t - t.mean(-1, keepdim=True)) / (t.var(-1, correction=0, keepdim=True) + 1e-6).sqrt() * norm.weight
            for t, norm in ((a, module.query_norm), (b, module.key_norm))
        )
        kept.append((a @ b.mT / 5**0.5).softmax(-1))
        out.append(kept[-1] @ c)
    expected = module.output(torch.cat(out, -1))
    with record_attention(module) as maps:
        found = module(z)
    assert close(found, expected)
    assert close(maps[""], torch.stack(kept, 1))
    toward = torch.randn_like(found)
    wanted = [z, *module.parameters()]
    pairs = zip(*(torch.autograd.grad(o, wanted, toward) for o in (module(z), expected)), strict=True)
    assert all(close(a, b) for a, b in pairs)


@pytest.mark.parametrize("norm", [scale_norm, RMSNorm])
def test_no_score_is_beyond_the_bound_whatever_the_tokens_and_the_maps(norm):
    for size in (1e-3, 1.0, 1e3):
        module = randomised(NormalisedAttention(12, heads=3, qkv_bias=False, norm=norm)).double()
        module.qkv.weight.data *= size
        bound = 4**0.5 * (module.query_norm.weight * module.key_norm.weight).abs().max()
        z = size * torch.randn(5, 31, 12, dtype=torch.float64)
        with record_attention(module) as maps:
            module(z)
        q, k = scores(module, z)
        assert largest(q, k) <= bound
        assert close(maps[""], attention_weights(q, k)), "these are the scores that it has"
        logs = maps[""].log()
        assert (logs.amax(-1) - logs.amin(-1)).max() <= 2 * bound
        assert maps[""].max() <= 1 / (1 + 30 * torch.exp(-2 * bound)), "so that no weight is one"


def test_the_bound_is_reached():
    """Two features normalise to plus and minus one."""
    norm, z = scale_norm(2), torch.tensor([[3.0, 1.0], [0.0, 10.0]])
    q = norm(z)
    assert close(q, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert close(q @ q.T / 2**0.5, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * 2**0.5)


def test_plain_scores_grow_with_the_square_of_tokens_and_maps_and_normalised_ones_do_not():
    plain, module = (
        SelfAttention(12, heads=3, qkv_bias=False).double(),
        NormalisedAttention(12, heads=3, qkv_bias=False),
    )
    module = module.double()
    module.qkv.load_state_dict(plain.qkv.state_dict())
    z = torch.randn(2, 7, 12, dtype=torch.float64)
    first = [largest(*scores(kind, z)) for kind in (plain, module)]
    scaled = [largest(*scores(kind, 10 * z)) for kind in (plain, module)]
    assert scaled[0] == pytest.approx(100 * first[0], rel=1e-9)
    assert scaled[1] == pytest.approx(first[1], rel=1e-3)
    for kind in (plain, module):
        kind.qkv.weight.data *= 10
    again = [largest(*scores(kind, z)) for kind in (plain, module)]
    assert again == pytest.approx(scaled, rel=1e-9)


# parallel blocks


@DTYPES
def test_a_parallel_block_is_its_equation_written_out(dtype):
    block = randomised(ParallelBlock(10, heads=5, hidden=11, **{k: v for k, v in LARGE.items() if k != "block"}))
    block = block.to(dtype)
    z = torch.randn(2, 7, 10, dtype=dtype, requires_grad=True)
    normal = F.layer_norm(z, (10,), block.attention_norm.weight, eps=1e-6)
    expected = z + block.mlp(normal) + block.attention(normal)
    out = block(z)
    assert close(out, expected)
    toward = torch.randn_like(out)
    wanted = [z, *block.parameters()]
    pairs = zip(*(torch.autograd.grad(o, wanted, toward) for o in (out, expected)), strict=True)
    assert all(close(a, b) for a, b in pairs)


def test_a_block_whose_attention_adds_nothing_is_the_same_in_a_row_and_side_by_side():
    row, beside = randomised(Block(10, heads=5, hidden=11)), ParallelBlock(10, heads=5, hidden=11)
    for part in (row.attention.output.weight, row.attention.output.bias):
        nn.init.zeros_(part)
    row.mlp_norm.load_state_dict(row.attention_norm.state_dict())
    beside.load_state_dict({name: t for name, t in row.state_dict().items() if not name.startswith("mlp_norm")})
    z = torch.randn(2, 7, 10)
    assert close(beside(z), row(z))
    nn.init.normal_(row.attention.output.bias)
    beside.attention.output.load_state_dict(row.attention.output.state_dict())
    assert not close(beside(z), row(z))


def test_stochastic_depth_skips_both_branches_of_a_parallel_block_together():
    block = randomised(ParallelBlock(10, heads=5, hidden=11, drop_path=0.5)).train()
    z = torch.randn(64, 7, 10)
    block.drop_path.p = 0.0
    whole = block(z) - z
    block.drop_path.p = 0.5
    ratio = ((block(z) - z) * whole).sum((1, 2)) / whole.square().sum((1, 2))
    assert {round(r, 3) for r in ratio.tolist()} == {0.0, 2.0}


# the trunk


def test_parts_run_and_are_numbered_in_the_order_of_the_paper():
    model = small()
    rates = {id(p): group["lr"] for group in model.parameter_groups(1.0, layer_decay=0.5) for p in group["params"]}
    parts = (model.positions, model.blocks[0].attention.qkv.weight, model.norm.weight, model.pooling.token)
    last = (model.pooling.attention.key.weight, model.pooling.mlp.expand.weight, model.head.weight)
    assert [rates[id(p)] for p in (*parts, *last)] == [0.5**3, 0.5**2, 1.0, 1.0, 1.0, 1.0, 1.0]
    decayed = {id(p) for group in model.parameter_groups(1.0) if group["weight_decay"] for p in group["params"]}
    assert id(model.pooling.token) not in decayed


def test_resizing_keeps_all_positions_of_patches_and_equals_timm():
    from timm.layers import resample_abs_pos_embed

    ours = small(**LARGE)
    expected = resample_abs_pos_embed(ours.positions.detach(), [11, 13], [5, 7], num_prefix_tokens=0)
    assert close(ours.resize((22, 39)).positions, expected)
    assert ours(torch.randn(BATCH, CHANNELS, 22, 39)).shape == (BATCH, CLASSES)


def test_poolings_blocks_and_attentions_may_be_others():
    plain = small(pooling=ClassToken, block=ParallelBlock, attention=SelfAttention)
    assert plain.positions.shape[1] == 1 + PATCHES
    assert plain(images()).shape == (BATCH, CLASSES)
    mixed = small(attention=partial(NormalisedAttention, norm=RMSNorm), norm=RMSNorm)
    assert type(mixed.pooling.mlp_norm) is RMSNorm
    assert mixed(images()).shape == (BATCH, CLASSES)
    assert type(small(activation=nn.ReLU).pooling.mlp.activation) is nn.ReLU


def test_wrong_names_and_sizes_are_refused(unchecked):
    with pytest.raises(ValueError, match="unknown variant 'G/16'; known: s/28, s/16"):
        scaling_vit("G/16")
    with pytest.raises(ValueError, match="nearest sizes that fit: 378 x 378 and 392 x 392"):
        on_meta("g/14", image_size=384)
    with pytest.raises(ValueError, match="heads"):
        AttentionPooling(10, heads=3, hidden=11)


# where it looks


def test_the_probe_looks_where_the_literal_softmax_says():
    model, x = small(**LARGE), images()
    seen = see(model, x)
    assert [*seen.layers] == [*(f"blocks.{i}.attention" for i in range(DEPTH)), "pooling.attention"]
    asking, z = model.pooling.attention, model.tokens(x)
    q, k = (t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (asking.query(model.pooling.token), asking.key(z)))
    expected = attention_weights(q.expand(BATCH, -1, -1, -1), k)[:, :, 0]
    gaze = seen.layers["pooling.attention"].map("probe")
    assert close(gaze.places, expected.unflatten(-1, (5, 7)))
    assert not gaze.extra.any(), "the probe is no key"


def test_the_rollout_begins_at_the_probe_and_is_a_row_of_the_matrices():
    """A half stays with the probe, as with any token of a rollout, though no skip connection passes the pooling."""
    model, x = small(), images()
    seen = see(model, x)
    r = seen.layers["pooling.attention"].weights.mean(1)[:, 0] / 2
    for i in range(DEPTH)[::-1]:
        weights = seen.layers[f"blocks.{i}.attention"].weights.mean(1)
        r = torch.einsum("bn,bnm->bm", r, (weights + torch.eye(PATCHES)) / 2)
    found = seen.rollout()
    assert close(found.places.flatten(1), r)
    assert close(found.extra, torch.full((BATCH, 1), 0.5))
