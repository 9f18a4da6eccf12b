"""PVT and PVT v2 against timm and transformers, against the papers' counts, and against their own literal equations."""

import re
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.nn.attention import attention_weights
from attention_notes.nn.block import PreNormBlock
from attention_notes.nn.mlp import MLP
from attention_notes.papers.pvt import (
    V1,
    V2,
    V2_LINEAR,
    VARIANTS,
    Block,
    ClassToken,
    ConvFeedForward,
    LearnedPositions,
    PatchEmbedding,
    PooledReduction,
    SpatialReductionAttention,
    StridedReduction,
    cut,
    overlapping,
    pvt,
)
from attention_notes.weights import layouts, to_layout, to_timm

# parameters with a head for 1000 classes, GMACs at 224 pixels; timm and transformers have the same parameters
COUNTS = {v: (line["parameters"], line["gmacs"]) for v, line in load_facts("pvt")["variants"].items()}
# every dimension another prime, where the pyramid leaves the choice
CHANNELS, CLASSES, BATCH = 5, 23, 3
SMALL = {
    "dims": (14, 22, 39, 34),
    "depths": (1, 2, 1, 2),
    "heads": (7, 11, 13, 17),
    "ratios": (3, 2, 2, 1),
    "expansions": (3, 2, 5, 4),
}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def small(variant, *, image_size=(64, 96), **overrides):
    sizes = {"num_classes": CLASSES, "channels": CHANNELS, "image_size": image_size, **SMALL, **overrides}
    return randomised(pvt(variant, **sizes)).eval()


def randomised(model):
    """Norms start at one, biases at zero, positions near it: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "position" in name or "token" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def assert_same(ours, theirs, name, *, image=(64, 96)):
    """The same weights give the same logits, the same gradient of the images and of every parameter."""
    layout = layouts(ours)[name]
    theirs.load_state_dict(layout.to_theirs(ours), strict=True)
    theirs.eval()
    x = torch.randn(BATCH, CHANNELS, *image, dtype=ours.head.weight.dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(y)
    b = getattr(b, "logits", b)
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


def timms(*, linear):
    from timm.models.pvt_v2 import PyramidVisionTransformerV2 as Reference

    sizes = {"embed_dims": SMALL["dims"], "sr_ratios": SMALL["ratios"], "mlp_ratios": SMALL["expansions"]}
    sizes |= {"depths": SMALL["depths"], "num_heads": SMALL["heads"]}
    return Reference(in_chans=CHANNELS, num_classes=CLASSES, linear=linear, **sizes)


def huggings(model, config, **options):
    sizes = {"hidden_sizes": SMALL["dims"], "mlp_ratios": SMALL["expansions"], "depths": SMALL["depths"]}
    sizes |= {"num_attention_heads": SMALL["heads"], "num_channels": CHANNELS, "num_labels": CLASSES}
    theirs = model(config(**sizes, **options))
    for name, module in theirs.named_modules():  # theirs have 1e-6 everywhere, the authors' after convolutions 1e-5
        if isinstance(module, nn.LayerNorm) and re.search(
            r"(patch_embeddings?(\.\d)?|self|attention)\.layer_norm$", name
        ):
            module.eps = 1e-5
    return theirs


@DTYPES
@pytest.mark.parametrize(("variant", "linear"), [("pvt_v2_b0", False), ("pvt_v2_b2_li", True)])
def test_version_two_equals_timm_in_outputs_and_gradients(dtype, variant, linear):
    assert_same(small(variant).to(dtype), timms(linear=linear).to(dtype), "timm")


@DTYPES
@pytest.mark.parametrize(("variant", "linear"), [("pvt_v2_b0", False), ("pvt_v2_b2_li", True)])
def test_version_two_equals_transformers_in_outputs_and_gradients(dtype, variant, linear):
    from transformers import PvtV2Config, PvtV2ForImageClassification

    options = {"sr_ratios": SMALL["ratios"], "linear_attention": linear}
    theirs = huggings(PvtV2ForImageClassification, PvtV2Config, **options)
    assert_same(small(variant).to(dtype), theirs.to(dtype), "transformers")


@DTYPES
def test_version_one_equals_transformers_in_outputs_and_gradients(dtype):
    from transformers import PvtConfig, PvtForImageClassification

    options = {"sequence_reduction_ratios": SMALL["ratios"], "image_size": 64}  # theirs can be built for squares only
    theirs = huggings(PvtForImageClassification, PvtConfig, **options)
    assert_same(small("pvt_tiny", image_size=64).to(dtype), theirs.to(dtype), "transformers", image=(64, 64))


def test_the_smallest_of_each_version_equals_its_reference_at_full_size():
    import timm
    from transformers import PvtConfig, PvtForImageClassification

    x = torch.randn(1, 3, 224, 224)
    ours = randomised(pvt("pvt_v2_b0")).eval()
    theirs = timm.create_model("pvt_v2_b0").eval()
    theirs.load_state_dict(to_timm(ours))
    first, hugging = randomised(pvt("pvt_tiny")).eval(), PvtForImageClassification(PvtConfig()).eval()
    hugging.load_state_dict(to_layout(first, "transformers"))
    for name, module in hugging.named_modules():
        if re.search(r"(patch_embeddings\.\d|self)\.layer_norm$", name):
            module.eps = 1e-5
    with torch.no_grad():
        assert close(ours(x), theirs(x))
        assert close(first(x), hugging(x).logits)


def test_maps_equal_those_of_timm_on_an_image_that_no_stride_divides():
    ours, theirs = small("pvt_v2_b0"), timms(linear=False).eval()
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(2, CHANNELS, 67, 101)
    maps = ours.features(x)
    assert [f.shape[2:] for f in maps] == [(17, 26), (9, 13), (5, 7), (3, 4)]
    for a, b in zip(maps, theirs.forward_intermediates(x, intermediates_only=True), strict=True):
        assert close(a, b)


def test_maps_and_recorded_weights_equal_those_of_transformers():
    from transformers import PvtConfig, PvtForImageClassification

    ours = small("pvt_tiny", image_size=64)
    theirs = huggings(
        PvtForImageClassification,
        PvtConfig,
        sequence_reduction_ratios=SMALL["ratios"],
        image_size=64,
        attn_implementation="eager",
    )
    theirs.load_state_dict(to_layout(ours, "transformers"))
    x = torch.randn(BATCH, CHANNELS, 64, 64)
    with record_attention(ours) as maps:
        ours(x)
    their = theirs.eval()(x, output_attentions=True, output_hidden_states=True)
    assert list(maps)[:2] == ["stages.0.blocks.0.attention.attend", "stages.1.blocks.0.attention.attend"]
    assert next(iter(maps.values())).shape == (BATCH, 7, 256, 25)
    for a, b in zip(maps.values(), their.attentions, strict=True):
        assert close(a, b)
    for a, b in zip(ours.features(x)[:3], [their.hidden_states[i] for i in (0, 2, 3)], strict=True):
        assert close(a.flatten(2).mT, b)


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return pvt(variant, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_its_reference_and_the_macs(variant):
    import timm
    from transformers import PvtConfig, PvtForImageClassification

    parameters, gmacs = COUNTS[variant]
    with torch.device("meta"):
        if "v2" in variant:
            theirs = timm.create_model(variant)
        else:
            theirs = PvtForImageClassification(PvtConfig(depths=VARIANTS[variant]["depths"], num_labels=1000))
        image = torch.empty(1, 3, 224, 224)
    assert count_parameters(on_meta(variant)) == parameters == count_parameters(theirs)
    assert round(count_macs(on_meta(variant), image) / 1e9, 2) == gmacs


@pytest.mark.parametrize("variant", ["pvt_small", "pvt_v2_b2", "pvt_v2_b2_li"])
def test_maps_are_four_eight_sixteen_and_thirty_two_times_smaller_than_an_image_that_is_not_square(variant):
    maps = on_meta(variant).features(torch.empty(2, 3, 96, 160, device="meta"))
    assert [tuple(f.shape) for f in maps] == [(2, 64, 24, 40), (2, 128, 12, 20), (2, 320, 6, 10), (2, 512, 3, 5)]


def test_the_reduction_is_the_equation_reshape_then_linear_then_norm():
    reduction = StridedReduction(7, ratio=3)
    x = torch.randn(2, 6, 15, 7)
    windows = rearrange(x, "b (gy py) (gx px) c -> b (gy gx) (c py px)", py=3, px=3)
    linear = windows @ reduction.convolution.weight.flatten(1).T + reduction.convolution.bias
    assert close(reduction(x), F.layer_norm(linear, (7,)))
    assert reduction(x).shape == (2, 10, 7)


def test_rows_and_columns_beyond_the_last_window_are_asked_nothing():
    reduction = StridedReduction(7, ratio=3)
    x = torch.randn(2, 7, 11, 7, requires_grad=True)
    reduction(x).square().sum().backward()
    read = x.grad.abs().sum((0, 3)) > 0
    assert read[:6, :9].all()
    assert not read[6:].any()
    assert not read[:, 9:].any()


def test_without_reduction_it_is_plain_multi_head_attention():
    attention = SpatialReductionAttention(14, heads=7, reduction=StridedReduction(14, ratio=1))
    x = torch.randn(2, 3, 5, 14)
    assert close(attention(x).flatten(1, 2), attention.attend(x.flatten(1, 2)))


@DTYPES
@pytest.mark.parametrize("reduction", [StridedReduction(14, ratio=2), PooledReduction(14, size=3)])
def test_the_attention_is_its_literal_equations(dtype, reduction):
    layer = SpatialReductionAttention(14, heads=7, reduction=reduction).to(dtype)
    x = torch.randn(3, 6, 10, 14, dtype=dtype)
    few = reduction(x)
    maps = layer.attend
    heads = []
    for j in range(7):
        q, k, v = (
            source @ each.weight[2 * j : 2 * j + 2].T + each.bias[2 * j : 2 * j + 2]
            for source, each in ((x.flatten(1, 2), maps.query), (few, maps.key), (few, maps.value))
        )
        heads.append(attention_weights(q, k) @ v)
    literal = torch.cat(heads, dim=-1) @ maps.output.weight.T + maps.output.bias
    assert close(layer(x).flatten(1, 2), literal)


def test_one_block_sees_the_whole_image():
    model = small("pvt_tiny", depths=(1, 1, 1, 1), ratios=(8, 4, 2, 1))
    x = torch.randn(1, CHANNELS, 64, 96, requires_grad=True)
    model.features(x)[0][0, :, 8, 11].square().sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_the_pooled_reduction_has_as_many_keys_at_every_size_and_reads_every_token():
    reduction = PooledReduction(5, size=3)
    for grid in ((3, 3), (7, 11), (2, 5)):
        x = torch.randn(2, *grid, 5, requires_grad=True)
        few = reduction(x)
        assert few.shape == (2, 9, 5)
        few.square().sum().backward()
        assert (x.grad.abs().sum((0, 3)) > 0).all()


def test_the_pooled_reduction_by_hand():
    reduction = PooledReduction(2, size=1)
    with torch.no_grad():
        reduction.convolution.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]])[..., None, None])
        reduction.convolution.bias.zero_()
    x = torch.tensor([[[[1.0, 2.0], [3.0, 2.0]]]])  # means 2 and 2, mapped to 6 and 2: two deviations of 2
    expected = F.gelu(torch.tensor([[[2.0, -2.0]]]) / (4 + 1e-5) ** 0.5)
    torch.testing.assert_close(reduction(x), expected)


def test_windows_overlap_by_three_pixels_in_the_first_stage_and_by_one_later():
    for stride, (kernel, padding) in {4: (7, 3), 2: (3, 1)}.items():
        projection = overlapping(3, dim=5, stride=stride).projection
        assert (projection.kernel_size, projection.padding) == ((kernel, kernel), (padding, padding))
        assert cut(3, dim=5, stride=stride).projection.kernel_size == (stride, stride)


def test_cutting_is_the_linear_map_of_flattened_patches():
    embed = cut(3, dim=7, stride=2)
    x = torch.randn(2, 3, 10, 22)
    flat = rearrange(x, "b ch (gy py) (gx px) -> b gy gx (ch py px)", py=2, px=2)
    linear = flat @ embed.projection.weight.flatten(1).T + embed.projection.bias
    assert close(embed(x), F.layer_norm(linear, (7,)))


def test_a_convolution_that_only_looks_at_the_middle_leaves_a_plain_mlp():
    conv, plain = ConvFeedForward(7, hidden=11), MLP(7, hidden=11)
    nn.init.dirac_(conv.depthwise.weight, groups=11)
    nn.init.zeros_(conv.depthwise.bias)
    plain.load_state_dict({name: t for name, t in conv.state_dict().items() if "depthwise" not in name})
    x = torch.randn(2, 3, 5, 7)
    assert close(conv(x), plain(x))
    gated = ConvFeedForward(7, hidden=11, gate=nn.ReLU)
    gated.load_state_dict(conv.state_dict())
    assert close(gated(x), plain.contract(F.gelu(plain.expand(x).relu())))


def test_the_feed_forward_sees_three_by_three_neighbours_and_zeros_beyond_the_border():
    layer = ConvFeedForward(2, hidden=3)
    x = torch.randn(1, 5, 7, 2, requires_grad=True)
    layer(x)[0, 2, 3].sum().backward()
    seen = x.grad.abs().sum((0, 3)).nonzero()
    assert seen.amin(0).tolist() == [1, 2]
    assert seen.amax(0).tolist() == [3, 4]
    even = layer(torch.ones(1, 5, 7, 2))[0]
    assert close(even[1:-1, 1:-1], even[2:3, 3:4].expand(3, 5, 2))
    assert (even[0, 0] - even[2, 3]).abs().max() > 1e-3


def test_positions_are_added_and_interpolated_bilinearly_by_hand():
    positions = LearnedPositions(1, grid=(1, 2))
    positions.table.data = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1)
    assert positions(torch.zeros(1, 1, 2, 1)).flatten().tolist() == [0, 1]
    wide = positions(torch.full((2, 3, 4, 1), 5.0))
    assert wide.shape == (2, 3, 4, 1)
    assert wide[1, 2].flatten().tolist() == [5, 5.25, 5.75, 6]


def test_the_class_token_comes_first_with_its_own_position_and_only_it_is_read():
    token = randomised(ClassToken(5))
    x = torch.randn(2, 3, 7, 5)
    row = token.prepend(x)
    assert row.shape == (2, 1, 22, 5)
    assert torch.equal(row[1, 0, 0], (token.token + token.position).flatten())
    assert torch.equal(row[:, 0, 1:], x.flatten(1, 2))
    assert close(token(row), token.norm(row[:, 0, 0]))


def test_maps_for_dense_tasks_know_nothing_of_the_class_token():
    model = small("pvt_tiny")
    x = torch.randn(BATCH, CHANNELS, 64, 96)
    logits, maps = model(x), model.features(x)
    nn.init.normal_(model.pooling.token)
    assert (model(x) - logits).abs().max() > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(maps, model.features(x), strict=True))


def moves_along(model):
    """Whether all maps move with an image that is rolled by 32 pixels, its border wrapping round."""
    x = torch.randn(1, CHANNELS, 96, 160)
    rolled = model.features(x.roll((32, 64), (2, 3)))
    shifts = [(32 // stride, 64 // stride) for stride in (4, 8, 16, 32)]
    return [bool(close(a, b.roll(s, (2, 3)))) for a, b, s in zip(rolled, model.features(x), shifts, strict=True)]


def test_positions_are_all_that_ties_version_one_to_places_and_zero_padding_version_two():
    ratios = {"ratios": (4, 2, 2, 1)}  # windows of the reductions tile 32 pixels
    assert moves_along(small("pvt_tiny", **ratios)) == [False] * 4
    assert moves_along(small("pvt_tiny", design=replace(V1, positions=nn.Identity), **ratios)) == [True] * 4
    second = small("pvt_v2_b0", **ratios)
    assert moves_along(second) == [False] * 4
    for module in second.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    assert moves_along(second) == [True] * 4


def test_version_one_runs_on_other_sizes_than_it_was_built_for():
    model = small("pvt_tiny", image_size=64)
    assert model(torch.randn(2, CHANNELS, 96, 160)).shape == (2, CLASSES)
    tables = [stage.positions.table.shape for stage in model.stages]
    assert tables == [(1, 16, 16, 14), (1, 8, 8, 22), (1, 4, 4, 39), (1, 2, 2, 34)]


def test_a_resized_version_one_computes_what_it_did_at_that_size_with_tables_of_that_size():
    model, x = small("pvt_tiny", image_size=64), torch.randn(2, CHANNELS, 96, 160)
    before = model(x)
    assert model.resize((96, 160)) is model
    assert torch.equal(model(x), before)
    tables = [stage.positions.table.shape for stage in model.stages]
    assert tables == [(1, 24, 40, 14), (1, 12, 20, 22), (1, 6, 10, 39), (1, 3, 5, 34)]


def test_a_size_that_patches_do_not_cover_is_refused_before_anything_has_changed(unchecked):
    model = small("pvt_tiny", image_size=64)
    tables = [stage.positions.table for stage in model.stages]
    with pytest.raises(ValueError, match=r"25 x 24 does not cut into 2 x 2; PVT v1 needs .* multiples of 32"):
        model.resize((200, 192))
    assert all(stage.positions.table is table for stage, table in zip(model.stages, tables, strict=True))
    assert small("pvt_v2_b0").resize((200, 190))(torch.randn(2, CHANNELS, 200, 190)).shape == (2, CLASSES)


@pytest.mark.parametrize("variant", ["pvt_tiny", "pvt_v2_b0", "pvt_v2_b2_li"])
def test_weights_of_attentions_and_what_they_give_are_dropped_each_by_its_own_rate(variant):
    model = small(variant, attention_dropout=0.2, projection_dropout=0.3)
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    assert [(b.attention.attend.attention_dropout.p, b.dropout.p) for b in blocks] == [(0.2, 0.3)] * 6
    blocks = [m for m in small(variant).modules() if isinstance(m, Block)]
    assert [(b.attention.attend.attention_dropout.p, b.dropout.p) for b in blocks] == [(0.0, 0.0)] * 6


def test_foreign_parts_are_told_of_dropout_only_where_it_is_asked_for():
    told = []

    def part(dim, **options):
        told.append({name: options[name] for name in options if "dropout" in name})
        return nn.Identity()

    small("pvt_v2_b0", design=replace(V2, attention=part))
    small("pvt_v2_b0", design=replace(V2, block=part))
    assert told == [{}] * 12
    told.clear()
    asked = {"attention_dropout": 0.2, "projection_dropout": 0.3}
    small("pvt_v2_b0", design=replace(V2, attention=part), **asked)
    small("pvt_v2_b0", design=replace(V2, block=part), **asked)
    assert told == [{"attention_dropout": 0.2}] * 6 + [asked] * 6


@pytest.mark.parametrize("variant", VARIANTS)
def test_stochastic_depth_is_that_of_the_authors_configurations(variant):
    last = [module.drop_path.p for module in on_meta(variant).modules() if isinstance(module, Block)][-1]
    assert last == (0.3 if variant in ("pvt_medium", "pvt_large", "pvt_v2_b3", "pvt_v2_b4", "pvt_v2_b5") else 0.1)


def test_stochastic_depth_grows_from_the_first_block_to_the_last():
    model = pvt("pvt_v2_b0", drop_path=0.3, **SMALL)
    rates = [module.drop_path.p for module in model.modules() if isinstance(module, Block)]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.3, 6))
    x = torch.randn(7, 3, 64, 96)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_weights_start_as_the_authors_draw_them():
    first, second = pvt("pvt_tiny"), pvt("pvt_v2_b0")
    for model in (first, second):
        assert abs(model.head.weight.std() - 0.02) < 1e-3
        assert not model.stages[0].blocks[0].mlp.expand.bias.any()
    depthwise, strided = second.stages[2].blocks[0].mlp.depthwise, second.stages[2].blocks[0].attention.reduction
    assert abs(depthwise.weight.std() / (2 / 9) ** 0.5 - 1) < 0.05
    assert abs(strided.convolution.weight.std() / (2 / (4 * 160)) ** 0.5 - 1) < 0.05
    assert abs(first.stages[1].patches.projection.weight.std() / (3 * 64 * 4) ** -0.5 - 1) < 0.05  # PyTorch's uniform
    assert abs(first.stages[0].positions.table.std() - 0.02) < 1e-3


def test_parts_can_be_exchanged():
    design = replace(V2, mlp=MLP, patches=cut)
    model = small("pvt_v2_b0", design=design)
    assert not any(isinstance(module, ConvFeedForward) for module in model.modules())
    assert model(torch.randn(2, CHANNELS, 64, 96)).shape == (2, CLASSES)
    assert VARIANTS["pvt_v2_b2_li"]["design"] is V2_LINEAR
    assert pvt("pvt_v2_b0", num_classes=None, **SMALL)(torch.randn(2, 3, 64, 96)).shape == (2, 34)


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match=r"65 x 96 does not cut into 4 x 4; PVT v1 needs .* multiples of 32"):
        small("pvt_tiny")(torch.randn(1, CHANNELS, 65, 96))
    with pytest.raises(ValueError, match="a map of 5 x 7 tokens is smaller than a window of R=8"):
        StridedReduction(3, ratio=8)(torch.randn(1, 5, 7, 3))
    with pytest.raises(ValueError, match=r"unknown variant 'pvt_huge'; known: pvt_tiny, .*, pvt_v2_b5"):
        pvt("pvt_huge")
    with pytest.raises(ValueError, match=r"every stage needs one entry of each, .* \(1, 2, 3\)"):
        pvt("pvt_tiny", depths=(1, 2, 3))
    with pytest.raises(ValueError, match="dim=64 is not divisible by heads=3"):
        pvt("pvt_tiny", heads=(3, 2, 5, 8))
    with pytest.raises(TypeError, match=r"unknown overrides \['depth'\]; known: dims, heads, .*, drop_path"):
        pvt("pvt_tiny", depth=(1, 1, 1, 1))


def test_an_image_of_the_wrong_channels_is_named(unchecked):
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 96\) have 3 channels, but the model was built for channels=5"):
        small("pvt_tiny")(torch.randn(1, 3, 64, 96))


def test_a_map_of_any_size_gets_windows_from_its_very_first_pixel():
    embed = PatchEmbedding(1, dim=3, stride=4, kernel=7, padding=3)
    for side, tokens in {1: 1, 4: 1, 5: 2, 8: 2, 9: 3}.items():
        assert embed(torch.randn(1, 1, side, side)).shape == (1, tokens, tokens, 3)


def test_transformers_cannot_run_version_one_at_another_size():
    """What the chapter warns of; the day it can, this fails."""
    from transformers import PvtConfig, PvtForImageClassification

    theirs = huggings(PvtForImageClassification, PvtConfig, sequence_reduction_ratios=(3, 2, 2, 1), image_size=64)
    with pytest.raises(RuntimeError):
        theirs(torch.randn(1, CHANNELS, 96, 64))


def test_the_tokens_of_a_block_stand_in_a_row_and_the_numbers_are_those_of_any_block():
    """In a map that compilers lay out for convolutions, every norm would read its tokens in strides."""
    parts = {"attention": SpatialReductionAttention(6, heads=2, reduction=StridedReduction(6, ratio=2))}
    block = randomised(Block(6, **parts, mlp=ConvFeedForward(6, hidden=11), layer_scale=0.5, drop_path=0.5))
    x, axes = torch.randn(3, 4, 6, 6, requires_grad=True), []
    for norm in (block.attention_norm, block.mlp_norm):
        norm.register_forward_hook(lambda module, given, out: axes.append(out.ndim))
    found = []
    for forward in (block.forward, partial(PreNormBlock.forward, block)):
        torch.manual_seed(1)
        out = forward(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), x)))
    assert axes == [3, 3, 4, 4]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
