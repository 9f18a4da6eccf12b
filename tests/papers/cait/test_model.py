"""CaiT against timm, against the published counts, and against its own literal equations."""

from functools import cache

import pytest
import torch
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.inspect.attention_maps import see
from attention_notes.nn.attention import attention_weights
from attention_notes.papers.cait import (
    VARIANTS,
    CaiT,
    ClassAttention,
    ClassAttentionBlock,
    ClassAttentionStage,
    TalkingHeads,
    cait,
    mix_heads,
)
from attention_notes.papers.cait.family import FAMILY
from attention_notes.papers.vit import Block, PatchEmbedding, SelfAttention
from attention_notes.weights import layouts, to_timm

PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("cait")["variants"].items()}
GMACS = {variant: line["gmacs"] for variant, line in load_facts("cait")["variants"].items()}

# every dimension another prime: images 11 channels of 10 x 21, cut 2 x 3 into a grid of 5 x 7
CHANNELS, IMAGE, PATCH, PATCHES = 11, (10, 21), (2, 3), 35
HEADS, DIM, HIDDEN, DEPTH, CLASSES, BATCH = 13, 13 * 17, 19, 2, 23, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def small(**overrides):
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    sizes = {"depth": DEPTH, "class_depth": 2, "heads": HEADS, "hidden": HIDDEN, "num_classes": CLASSES}
    return randomised(CaiT(patches, **sizes, **({"layer_scale": 1e-4} | overrides))).eval()


def randomised(model):
    """Norms start at one, factors near zero, biases at zero: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "token" in name or "positions" in name or "_map" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
    return model


def images(dtype=torch.float32, batch=BATCH):
    return torch.randn(batch, CHANNELS, *IMAGE, dtype=dtype)


def timms():
    from timm.models.cait import Cait

    return Cait(
        img_size=IMAGE,
        patch_size=PATCH,
        in_chans=CHANNELS,
        embed_dim=DIM,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=HIDDEN / DIM + 1e-9,
        mlp_ratio_token_only=HIDDEN / DIM + 1e-9,
        num_classes=CLASSES,
    )


@DTYPES
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_equal_those_of_timm(dtype, training):
    ours, theirs = small().to(dtype).train(training), timms().to(dtype).train(training)
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
        silent = name.endswith(("proj_l.bias", "attn.k.bias"))  # added to a whole row of scores
        assert silent or gradient.abs().max() > 1e-6, name


def test_two_layers_of_the_smallest_model_equal_those_of_timm_at_full_width():
    import timm

    ours, theirs = randomised(cait("XXS24", depth=2)).eval(), timm.create_model("cait_xxs24_224", depth=2).eval()
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert close(ours(x), theirs(x))


def test_the_map_after_each_patch_layer_equals_timms():
    ours, theirs = small(), timms().eval()
    theirs.load_state_dict(to_timm(ours))
    x = images()
    maps, expected = ours.features(x), theirs.forward_intermediates(x, intermediates_only=True)
    assert all(close(a, b) for a, b in zip(maps, expected, strict=True))
    assert [m.shape for m in maps] == [(BATCH, DIM, 5, 7)] * DEPTH


@cache
def on_meta(variant):
    with torch.device("meta"):
        return cait(variant).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timm(variant):
    with torch.device("meta"):
        theirs = FAMILY.reference(variant).build()
    assert count_parameters(on_meta(variant)) == PARAMETERS[variant] == count_parameters(theirs)


@pytest.mark.parametrize(("variant", "gmacs"), GMACS.items())
def test_the_cost_is_that_of_the_table(variant, gmacs):
    size = VARIANTS[variant]["image_size"]
    assert round(count_macs(on_meta(variant), torch.empty(1, 3, size, size, device="meta")) / 1e9, 2) == gmacs


def test_the_weights_start_as_the_authors_code_starts_them():
    import timm

    for variant, name in (("S24", "cait_s24_224"), ("S36 384", "cait_s36_384")):
        ours, theirs = cait(variant, depth=1), timm.create_model(name, depth=1)
        start = dict(theirs.named_parameters())
        for key, tensor in to_timm(ours).items():
            ones, zeros = torch.ones_like(tensor), torch.zeros_like(tensor)
            if start[key].equal(ones) or start[key].equal(zeros) or "gamma" in key:
                assert tensor.equal(start[key]), key
            else:
                spread, expected = (t.abs().median() for t in (tensor, start[key]))  # rare draws lie far out
                assert abs(spread / expected - 1) < 8 / tensor.numel() ** 0.5, key
                even = [t.abs().max() < 2 * t.std() for t in (tensor, start[key])]  # a uniform distribution
                assert even[0] == even[1] or tensor.numel() < 100, key


def test_stochastic_depth_is_the_same_in_every_patch_layer_and_in_no_other():
    model = cait("XXS36", class_depth=3)
    assert [block.drop_path.p for block in model.blocks] == [0.1] * 36
    assert [block.drop_path.p for block in model.pooling.blocks] == [0.0] * 3


# LayerScale


def test_with_factors_of_zero_every_patch_layer_is_the_identity():
    model, x = small(layer_scale=0.0), images()
    for block in model.blocks:
        nn.init.zeros_(block.attention_scale.gamma)
        nn.init.zeros_(block.mlp_scale.gamma)
    assert torch.equal(model.tokens(x), model.embed(x))


def test_factors_of_one_are_none_and_any_factors_can_be_put_into_the_maps_before_them():
    model, x = small(), images()
    plain = small(layer_scale=None)
    state = model.state_dict()
    for name in [name for name in state if name.endswith("gamma")]:
        gamma, block = state.pop(name), name.rpartition("_scale")[0].rpartition(".")[0]
        last = "attention.output" if "attention_scale" in name else "mlp.contract"
        state[f"{block}.{last}.weight"] = gamma[:, None] * state[f"{block}.{last}.weight"]
        state[f"{block}.{last}.bias"] = gamma * state[f"{block}.{last}.bias"]
    plain.load_state_dict(state)
    assert close(plain(x), model(x))


def test_layer_scale_has_two_factors_a_channel_in_every_layer_of_both_stages():
    plain, scaled = (sum(p.numel() for p in small(layer_scale=start).parameters()) for start in (None, 1e-5))
    assert scaled - plain == 2 * DIM * (DEPTH + 2)


# talking heads


def test_heads_are_mixed_as_the_sums_say():
    maps, weight, bias = torch.randn(2, 3, 5, 7), torch.randn(3, 3), torch.randn(3)
    before = maps.clone()
    mixed = mix_heads(maps, weight, bias)
    for i in range(3):
        assert close(mixed[:, i], sum(weight[i, j] * maps[:, j] for j in range(3)) + bias[i])
    assert torch.equal(maps, before)


def literal(heads, z):
    """The equations of ``TalkingHeads``, head by head."""
    q, k, v = heads.qkv(z).unflatten(2, (3, heads.heads, -1)).permute(2, 3, 0, 1, 4)
    scores = [a @ b.mT / a.shape[-1] ** 0.5 for a, b in zip(q, k, strict=True)]
    mixed = [sum(w * s for w, s in zip(row, scores, strict=True)) for row in heads.score_map]
    weights = [(m + b).softmax(-1) for m, b in zip(mixed, heads.score_bias, strict=True)]
    again = [sum(w * p for w, p in zip(row, weights, strict=True)) for row in heads.weight_map]
    out = [(m + b) @ values for m, b, values in zip(again, heads.weight_bias, v, strict=True)]
    return heads.output(torch.cat(out, -1)), torch.stack(weights, 1)


@DTYPES
def test_talking_heads_equal_the_equations_head_by_head_in_outputs_and_gradients(dtype):
    heads = randomised(TalkingHeads(10, heads=5)).to(dtype)
    z = torch.randn(2, 7, 10, dtype=dtype, requires_grad=True)
    with record_attention(heads) as maps:
        out = heads(z)
    expected, weights = literal(heads, z)
    assert close(out, expected)
    assert close(maps[""], weights)
    toward = torch.randn_like(out)
    wanted = [z, *heads.parameters()]
    pairs = zip(*(torch.autograd.grad(o, wanted, toward) for o in (out, expected)), strict=True)
    assert all(close(a, b) for a, b in pairs)


def test_heads_that_do_not_talk_are_those_of_a_vit():
    heads, plain = randomised(TalkingHeads(10, heads=5)), SelfAttention(10, heads=5)
    for weight, bias in ((heads.score_map, heads.score_bias), (heads.weight_map, heads.weight_bias)):
        nn.init.eye_(weight)
        nn.init.zeros_(bias)
    plain.load_state_dict({name: heads.state_dict()[name] for name in plain.state_dict()})
    z = torch.randn(2, 7, 10)
    assert close(heads(z), plain(z))


def test_the_bias_before_the_softmax_changes_nothing():
    heads, z = randomised(TalkingHeads(10, heads=5)).double(), torch.randn(2, 7, 10, dtype=torch.float64)
    before = heads(z)
    nn.init.normal_(heads.score_bias, std=3.0)
    assert close(heads(z), before)
    nn.init.normal_(heads.weight_bias, std=3.0)
    assert not close(heads(z), before)


def test_talking_heads_can_be_had_from_a_fused_kernel_whose_heads_are_h_times_as_wide():
    """Mixed queries on all channels, and the heads' values all at once: dearer, but no map of ``n n`` is held."""
    heads, z = randomised(TalkingHeads(10, heads=5)).double(), torch.randn(2, 7, 10, dtype=torch.float64)
    q, k, v = heads.qkv(z).chunk(3, -1)
    wide = torch.einsum("gh,bnhd->bgnhd", heads.score_map, q.unflatten(2, (5, 2))).flatten(3)
    mixed = nn.functional.scaled_dot_product_attention(wide, k[:, None], v[:, None], scale=2**-0.5)
    out = torch.einsum("gh,bhngd->bngd", heads.weight_map, mixed.unflatten(3, (5, 2)))
    out = out + heads.weight_bias[:, None] * v.sum(1).unflatten(1, (5, 2))[:, None]
    assert close(heads.output(out.flatten(2)), heads(z))


# class attention


@DTYPES
def test_class_attention_is_its_equations_written_out(dtype):
    module = randomised(ClassAttention(10, heads=5)).to(dtype)
    z = torch.randn(2, 7, 10, dtype=dtype)
    q, k, v = module.query(z[:, 0]), module.key(z), module.value(z)
    out = []
    for part in range(0, 10, 2):
        a, b, c = (t[..., part : part + 2] for t in (q, k, v))
        weights = (torch.einsum("bd,bmd->bm", a, b) / 2**0.5).softmax(-1)
        out.append(torch.einsum("bm,bmd->bd", weights, c))
    assert close(module(z)[:, 0], module.output(torch.cat(out, -1)))


def test_class_attention_is_the_first_row_of_self_attention():
    module, whole = randomised(ClassAttention(10, heads=5)), SelfAttention(10, heads=5)
    parts = (module.query, module.key, module.value)
    whole.qkv.weight.data = torch.cat([part.weight.data for part in parts])
    whole.qkv.bias.data = torch.cat([part.bias.data for part in parts])
    whole.output.load_state_dict(module.output.state_dict())
    z = torch.randn(2, 7, 10)
    assert close(module(z), whole(z)[:, :1])


def test_a_class_attention_layer_leaves_the_patches_as_they_are():
    layer = randomised(ClassAttentionBlock(10, heads=5, hidden=11, attention=ClassAttention, layer_scale=1e-4))
    z = torch.randn(2, 7, 10)
    after = layer(z)
    assert torch.equal(after[:, 1:], z[:, 1:])
    assert not close(after[:, :1], z[:, :1])


def test_the_class_token_does_not_act_on_the_patches_and_they_act_on_it():
    model, x = small(), images()
    maps, before = model.features(x), model(x)
    nn.init.normal_(model.pooling.token)
    assert all(torch.equal(a, b) for a, b in zip(model.features(x), maps, strict=True))
    assert not close(model(x), before)
    tokens = model.tokens(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.read(tokens).square().sum(), tokens)
    assert gradient.abs().amax((0, 2)).min() > 0, "every patch"


def test_patches_have_no_order_for_the_class_attention_stage():
    stage, z = small().pooling, torch.randn(BATCH, PATCHES, DIM)
    assert close(stage(z[:, torch.randperm(PATCHES)]), stage(z))


def test_the_cost_of_class_attention_grows_linearly_with_the_patches():
    with torch.device("meta"):
        module = ClassAttention(384, heads=8)
        costs = [count_macs(module, torch.empty(1, 1 + n, 384)) for n in (100, 200, 300)]
    assert costs[2] - costs[1] == costs[1] - costs[0] == 100 * (2 * 384**2 + 2 * 384)
    assert costs[0] == 101 * (2 * 384**2 + 2 * 384) + 2 * 384**2


# the trunk


def test_parts_run_and_are_numbered_in_the_order_of_the_paper():
    model = small()
    groups = model.parameter_groups(1.0, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    layer = [rates[id(p)] for p in (model.positions, model.blocks[1].attention.score_map)]
    late = [rates[id(block.attention.query.weight)] for block in model.pooling.blocks]
    assert [*layer, *late, rates[id(model.norm.weight)], rates[id(model.head.weight)]] == [
        0.5**5,
        0.5**3,
        0.5**2,
        0.5,
        1.0,
        1.0,
    ]
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert id(model.pooling.token) not in decayed
    assert id(model.positions) not in decayed


def test_checkpointing_reaches_both_stages():
    model = small().checkpointing()
    assert model.blocks.checkpointed
    assert model.pooling.blocks.checkpointed


def test_resizing_keeps_the_class_token_out_and_equals_timm():
    from timm.layers import resample_abs_pos_embed

    ours = small()
    expected = resample_abs_pos_embed(ours.positions.detach(), [11, 13], [5, 7], num_prefix_tokens=0)
    assert close(ours.resize((22, 39)).positions, expected)
    assert ours(torch.randn(BATCH, CHANNELS, 22, 39)).shape == (BATCH, CLASSES)


def test_layers_and_attentions_may_be_others():
    plain = small(attention=SelfAttention, class_attention=ClassAttention, block=Block)
    assert type(plain.blocks[0].attention) is SelfAttention
    assert plain(images()).shape == (BATCH, CLASSES)
    alone = ClassAttentionStage(10, depth=1, heads=5, hidden=11, attention=ClassAttention)
    assert alone(torch.randn(2, 7, 10)).shape == (2, 10)


def test_wrong_names_and_sizes_are_refused(unchecked):
    with pytest.raises(ValueError, match="unknown variant 'S12'; known: XXS24, XXS24 384"):
        cait("S12")
    with pytest.raises(ValueError, match="230"):
        cait("XXS24", image_size=230, depth=1)
    with pytest.raises(ValueError, match="heads"):
        TalkingHeads(10, heads=3)


# where it looks


def test_the_class_token_looks_where_the_literal_softmax_says():
    model, x = small(), images()
    seen = see(model, x)
    assert [*seen.layers] == [*(f"blocks.{i}.attention" for i in range(DEPTH)), *_stage()]
    u = torch.cat([model.pooling.token.expand(BATCH, -1, -1), model.tokens(x)], 1)
    block = model.pooling.blocks[0]
    u = block.attention_norm(u)
    asked, known = block.attention.query(u[:, :1]), block.attention.key(u)
    q, k = (m.unflatten(2, (HEADS, -1)).transpose(1, 2) for m in (asked, known))
    expected = attention_weights(q, k)[:, :, 0]
    gaze = seen.layers["pooling.blocks.0.attention"].map("class")
    assert close(gaze.extra[..., 0], expected[..., 0])
    assert close(gaze.places, expected[..., 1:].unflatten(-1, (5, 7)))
    alone = seen.layers["pooling.blocks.0.attention"].map((3, 4)).places
    assert (alone[:, :, 1, 1] == 1).all()
    assert (alone.sum((-2, -1)) == 1).all(), "a patch asks nothing and keeps what it has"


def _stage():
    return [f"pooling.blocks.{i}.attention" for i in range(2)]


def test_the_rollout_goes_through_both_stages_and_is_a_row_of_the_matrices():
    """In class attention only the first row is mixed; patches keep what they have."""
    model, x = small(), images()
    seen = see(model, x)
    r = torch.zeros(BATCH, 1 + PATCHES)
    r[:, 0] = 1
    for name in [*_stage()][::-1]:
        matrix = torch.eye(1 + PATCHES).expand(BATCH, -1, -1).clone()
        matrix[:, 0] = seen.layers[name].weights.mean(1)[:, 0]
        r = torch.einsum("bn,bnm->bm", r, (matrix + torch.eye(1 + PATCHES)) / 2)
    token, r = r[:, :1], r[:, 1:]
    for i in range(DEPTH)[::-1]:
        weights = seen.layers[f"blocks.{i}.attention"].weights.mean(1)
        r = torch.einsum("bn,bnm->bm", r, (weights + torch.eye(PATCHES)) / 2)
    found = seen.rollout()
    assert close(found.extra, token)
    assert close(found.places.flatten(1), r)


def test_the_gradient_rollout_goes_through_both_stages():
    model, x = small(), images()
    seen = see(model, x, gradients=True)
    score = seen.output[:, 3]
    weights = [layer.weights for layer in seen.layers.values()]
    slopes = torch.autograd.grad(score.sum(), weights, retain_graph=True)
    products = dict(zip(seen.layers, slopes, strict=True))
    raising = {name: (products[name] * seen.layers[name].weights).clamp(min=0).mean(1) for name in products}
    r = torch.zeros(BATCH, 1 + PATCHES)
    r[:, 0] = 1
    for name in [*_stage()][::-1]:
        r = r + r[:, :1] * raising[name][:, 0]
    token, r = r[:, :1], r[:, 1:]
    for i in range(DEPTH)[::-1]:
        r = r + torch.einsum("bn,bnm->bm", r, raising[f"blocks.{i}.attention"])
    found = seen.gradient_rollout(score)
    assert close(found.places.flatten(1), r.detach())
    assert close(found.extra, token.detach())
