"""ViT_C against torchvision, its stem against loops, its tables against counts."""

from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import attention_maps, count_macs, count_parameters
from attention_notes.papers.deit import DistilledVisionTransformer, TwoTokens
from attention_notes.papers.early_conv import STEMS, VARIANTS, ConvStem, ViTC, early_conv
from attention_notes.papers.swin import Swin
from attention_notes.papers.vit import PatchEmbedding, VisionTransformer, vit
from attention_notes.weights import layouts, load_weights, to_layout
from tests.papers.early_conv.foreign import SIZES, STEM, torchvisions

FACTS = load_facts("early_conv")["variants"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
FOUR = partial(ConvStem, widths=(3, 5, 7, 11))


def randomised(module):
    """All parameters and statistics random, those that start at zero or one too."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn_like(tensor))
    return module.eval()


def small(**overrides):
    return randomised(early_conv("C-1GF", **{"stem": partial(ConvStem, **STEM), **SIZES, **overrides}))


# the stem


def test_a_stem_of_one_convolution_by_hand():
    """Ones of 3 x 3 over the numbers 0 to 15: sums of what is inside, every second; then times 2, and 1 more."""
    stem = ConvStem(1, image_size=4, widths=(1,), channels=1, norm=nn.Identity)
    for p in stem.parameters():
        nn.init.ones_(p)
    nn.init.constant_(stem.projection.weight, 2.0)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    sums = [0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7, 4 + 5 + 8 + 9 + 12 + 13, 5 + 6 + 7 + 9 + 10 + 11 + 13 + 14 + 15]
    assert stem(image)[0, :, 0].tolist() == [2 * s + 1 for s in sums]
    assert not (stem(-image) - 1).any(), "what is negative goes no further"


@DTYPES
@pytest.mark.parametrize("training", [False, True])
def test_the_stem_equals_loops_over_tokens_and_pixels(dtype, training):
    stem = randomised(ConvStem(4, image_size=(4, 6), widths=(3, 2), strides=(2, 1), channels=2)).to(dtype)
    stem.train(training)
    x = torch.randn(2, 2, 4, 6, dtype=dtype)
    z, before = x, [dict(layer[1].named_buffers()) for layer in stem.layers]
    for (convolution, norm, _), stride, buffers in zip(stem.layers, (2, 1), before, strict=True):
        padded = F.pad(z, (1, 1, 1, 1))
        rows, columns = z.shape[2] // stride, z.shape[3] // stride
        y = torch.stack(
            [
                torch.einsum("bcij,wcij->bw", padded[:, :, a : a + 3, e : e + 3], convolution.weight)
                for a in range(0, rows * stride, stride)
                for e in range(0, columns * stride, stride)
            ],
            -1,
        )
        mean, variance = buffers["running_mean"], buffers["running_var"]
        if training:
            mean, variance = y.mean((0, 2)), y.var((0, 2), unbiased=False)
        y = (y - mean[:, None]) / (variance[:, None] + 1e-5).sqrt() * norm.weight[:, None] + norm.bias[:, None]
        z = y.clamp(min=0).unflatten(2, (rows, columns))
    by_hand = torch.einsum("bwn,cw->bnc", z.flatten(2), stem.projection.weight[..., 0, 0]) + stem.projection.bias
    assert close(stem(x), by_hand)


def test_one_layer_of_patches_without_norm_and_rectifier_is_a_patch_embedding():
    plain = {"norm": nn.Identity, "activation": nn.Identity}
    stem = ConvStem(5, image_size=(12, 9), widths=(7,), strides=(3,), kernels=(3,), channels=2, **plain)
    patches = PatchEmbedding(5, image_size=(12, 9), patch=3, channels=2)
    last = stem.projection.weight[..., 0, 0]
    patches.projection.weight.data = last @ stem.layers[0][0].weight.flatten(1)
    patches.projection.bias.data = stem.projection.bias.data.normal_()
    x = torch.randn(2, 2, 12, 9)
    assert close(stem(x), patches(x))


def reach(stem, token, size):
    """First and last row of the pixels that a token depends on; the weights are such that nothing cancels."""
    for p in stem.parameters():
        nn.init.constant_(p, 0.01)
    x = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    z = stem.double().eval()(x)
    (gradient,) = torch.autograd.grad(z[0, token].sum(), x)
    rows = gradient[0, 0].any(1).nonzero()[:, 0]
    assert torch.equal(rows, gradient[0, 0].any(0).nonzero()[:, 0]), "on the diagonal, rows and columns are alike"
    return rows.min().item(), rows.max().item()


@pytest.mark.parametrize(("size", "half"), [("C-1GF", 15), ("C-4GF", 15), ("C-18GF", 27)])
def test_a_token_reads_31_or_55_pixels_around_the_corner_of_its_patch(size, half):
    stem = VARIANTS[size]["stem"](8, image_size=96)
    assert reach(stem, 2 * 6 + 2, 96) == (32 - half, 32 + half)
    assert reach(stem, 0, 96) == (0, half)
    assert reach(stem, 35, 96) == (80 - half, min(80 + half, 95))


def test_of_five_stems_of_table_3_the_reach_is():
    found = {name: reach(STEMS[name](8, image_size=96), 14, 96) for name in ("C", "S1", "S2", "S3", "S4")}
    assert found == {"C": (17, 47), "S1": (25, 47), "S2": (25, 51), "S3": (27, 51), "S4": (29, 50)}


def test_in_evaluation_an_image_moved_by_a_patch_moves_the_tokens_by_one_away_from_the_border():
    stem, wide = (randomised(FOUR(13, image_size=size)) for size in (96, 128))
    wide.load_state_dict(stem.state_dict())
    x = torch.randn(1, 3, 128, 128)
    whole = wide(x).unflatten(1, wide.grid)
    part = stem(x[..., 16:112, 16:112]).unflatten(1, stem.grid)
    assert close(part[:, 1:, 1:], whole[:, 2:7, 2:7])
    assert not close(part[:, :1], whole[:, 1:2, 1:7]), "the first row reads zeros from beyond the border"


def test_in_training_every_token_depends_on_every_image_of_the_batch_and_in_evaluation_on_its_own():
    stem, x = randomised(FOUR(13, image_size=64)), torch.randn(3, 3, 64, 64, requires_grad=True)
    for training in (True, False):
        (gradient,) = torch.autograd.grad(stem.train(training)(x)[0, 5].sum(), x)
        assert [bool(g.any()) for g in gradient] == [True, training, training]


def test_the_statistics_move_once_a_training_step_also_with_checkpointing_and_never_in_evaluation():
    model, x = small(), torch.randn(2, 3, 40, 40)
    counts = [layer[1].num_batches_tracked for layer in model.patches.layers]
    model(x)
    assert [int(count) for count in counts] == [0, 0, 0]
    model.train().checkpointing()(x).square().sum().backward()
    assert [int(count) for count in counts] == [1, 1, 1]
    wanted = 0.9 * torch.zeros(11) + 0.1 * model.patches.layers[0][0](x).mean((0, 2, 3))
    fresh = early_conv("C-1GF", stem=partial(ConvStem, **STEM), **SIZES).train()
    fresh.patches.layers[0][0].load_state_dict(model.patches.layers[0][0].state_dict())
    fresh(x)
    assert close(fresh.patches.layers[0][1].running_mean, wanted)


def test_in_training_the_scale_of_a_kernel_before_a_batch_norm_changes_nothing_and_its_gradient_is_orthogonal():
    stem, x = FOUR(13, image_size=64).double().train(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for layer in stem.layers:
        layer[1].eps = 1e-14
    toward = torch.randn(2, 16, 13, dtype=torch.float64)
    before = stem(x)
    kernels = [layer[0].weight for layer in stem.layers]
    gradients = torch.autograd.grad((before * toward).sum(), kernels)
    for kernel, gradient in zip(kernels, gradients, strict=True):
        assert (kernel * gradient).sum().abs() < 1e-10 * kernel.norm() * gradient.norm()
    kernels[1].data *= 4
    after = stem(x)
    assert close(after, before)
    assert close(4 * torch.autograd.grad((after * toward).sum(), kernels[1])[0], gradients[1])


def test_resizing_keeps_every_parameter_and_statistic_of_the_stem():
    model = small()
    before = {**dict(model.patches.named_parameters()), **dict(model.patches.named_buffers())}
    model.resize((60, 30))
    after = {**dict(model.patches.named_parameters()), **dict(model.patches.named_buffers())}
    assert all(after[name] is tensor for name, tensor in before.items())
    assert model.patches.grid == (6, 3)
    assert model(torch.randn(2, 3, 60, 30)).shape == (2, 23)


# whole models, beside torchvision


@DTYPES
@pytest.mark.parametrize("training", [False, True])
def test_outputs_gradients_and_statistics_equal_those_of_torchvision(dtype, training):
    theirs = torchvisions().to(dtype).train(training)
    ours = early_conv("C-1GF", stem=partial(ConvStem, **STEM), **SIZES).to(dtype).train(training)
    assert load_weights(ours, theirs.state_dict()) == "torchvision, as loaded"
    x = torch.randn(3, 3, 40, 40, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(y)
    assert close(a, b)
    toward = torch.randn_like(a)
    a.backward(toward)
    b.backward(toward)
    assert close(x.grad, y.grad)
    layout = layouts(ours)["torchvision, as loaded"]
    got = layout.to_theirs(ours, {name: p.grad for name, p in ours.named_parameters()})
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert got.keys() == expected.keys()
    size = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (got[name] - gradient).abs().max() < (1e-10 if dtype == torch.float64 else 2e-5) * size, name
    for name, tensor in to_layout(ours, "torchvision, as loaded").items():
        assert close(tensor.double(), theirs.state_dict()[name].double()), name


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return early_conv(variant, **options).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_torchvision_and_costs_what_is_recorded(variant):
    from attention_notes.papers.early_conv.family import FAMILY

    with torch.device("meta"):
        theirs = FAMILY.reference(variant).build()
    found = count_parameters(on_meta(variant))
    assert (found, found) == (count_parameters(theirs), FACTS[variant]["parameters"])
    macs = count_macs(on_meta(variant), torch.empty(1, 3, 224, 224, device="meta"))
    assert round(macs / 1e9, 2) == FACTS[variant]["gmacs"]


def test_a_vit_p_of_18_gigaflops_is_vit_b_16_to_the_last_name():
    ours, theirs = early_conv("P-18GF", depth=1), vit("B/16", depth=1)
    assert type(ours) is VisionTransformer
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 224, 224)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_the_stem_costs_about_a_block():
    """More than patches do, in blocks: at 36 gigaflops the smaller stem is kept, at 72 no block is dropped."""
    images = torch.empty(1, 3, 224, 224, device="meta")
    shares = {}
    for size in ("1GF", "4GF", "18GF", "36GF", "72GF"):
        model = on_meta(f"C-{size}")
        extra = count_macs(model.patches, images) - count_macs(on_meta(f"P-{size}").patches, images)
        tokens = torch.empty(1, 197, model.num_features, device="meta")
        shares[size] = round(extra / count_macs(model.blocks[0], tokens), 2)
    assert shares == {"1GF": 0.96, "4GF": 1.18, "18GF": 1.1, "36GF": 0.62, "72GF": 0.49}


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    # table 3: millions of parameters and of multiply-accumulates
    [("P", 0.3, 58), ("C", 1.0, 435), ("S1", 0.8, 422), ("S2", 0.7, 422), ("S3", 0.7, 458), ("S4", 0.6, 407)],
)
def test_the_stems_of_table_3_have_its_parameters_and_cost(name, parameters, macs):
    with torch.device("meta"):
        stem = STEMS[name](384, image_size=224)
    assert stem.grid == (14, 14)
    assert round(count_parameters(stem) / 1e6, 1) == parameters
    assert round(count_macs(stem, torch.empty(1, 3, 224, 224, device="meta")) / 1e6) == macs


def test_the_stem_starts_as_torchvisions():
    """As wide and as far out; and so do the maps that it makes, in training and in evaluation."""
    from torchvision.models.vision_transformer import ConvStemConfig
    from torchvision.models.vision_transformer import VisionTransformer as Theirs

    stem = [ConvStemConfig(width, 3, 2) for width in (48, 96, 192, 384)]
    theirs = Theirs(64, 16, 1, 6, 384, 8, conv_stem_configs=stem).conv_proj
    ours = STEMS["C"](384, image_size=64)
    for layer, other in zip(ours.layers, theirs, strict=False):
        assert layer[0].weight.std().item() == pytest.approx(other[0].weight.std().item(), rel=0.1)
        assert layer[0].weight.abs().max().item() == pytest.approx(other[0].weight.abs().max().item(), rel=0.02)
    assert ours.projection.weight.std().item() == pytest.approx((2 / 384) ** 0.5, rel=0.02)
    assert theirs.conv_last.weight.std().item() == pytest.approx((2 / 384) ** 0.5, rel=0.02)
    assert not ours.projection.bias.any()
    assert not theirs.conv_last.bias.any()
    x = torch.randn(4, 3, 64, 64)
    for training in (True, False):
        a, b = ours.train(training)(x), theirs.train(training)(x)
        assert a.std().item() == pytest.approx(b.std().item(), rel=0.2)


# other trunks


def test_deit_and_swin_take_the_stem():
    stem = randomised(ConvStem(12, image_size=32, widths=(6,), strides=(2,)))
    x = torch.randn(2, 3, 32, 32)
    swin = Swin(stem, depths=(1, 1), heads=(2, 2), window=4, num_classes=5).eval()
    assert [m.shape[1:] for m in swin.features(x)] == [(12, 16, 16), (24, 8, 8)]
    encoder = VisionTransformer(stem, depth=1, heads=2, hidden=8, num_classes=None, pooling=TwoTokens)
    deit = DistilledVisionTransformer(encoder, num_classes=5).eval()
    tokens = encoder.embed(x)
    assert close(tokens[:, 2:], stem(x) + encoder.positions[:, 2:])
    assert deit.both(x).shape == (2, 2, 5)


def test_a_stem_of_somebody_else_makes_a_plain_vit():
    model = early_conv("C-1GF", stem=partial(PatchEmbedding, patch=8), image_size=16, depth=1)
    assert type(model) is VisionTransformer
    assert type(small()) is ViTC


def test_a_map_of_attention_lies_over_the_corners_of_patches():
    model = small(stem=FOUR, image_size=(64, 48))
    layer = attention_maps.see(model, torch.randn(1, 3, 64, 48)).layers["blocks.0.attention"]
    grid = layer.placed.grid
    assert (grid.size, grid.centre, grid.stride, grid.image) == ((4, 3), (0, 0), (16, 16), (64, 48))
    assert layer.placed.names == ("class",)
    assert layer.map("class").places.shape == (1, 13, 4, 3)


# errors


def test_bad_sizes_are_named_with_the_way_out(unchecked):
    with pytest.raises(ValueError, match=r"225 x 224 .* make 16; the nearest .*: 224 x 224 and 240 x 224"):
        early_conv("C-1GF", image_size=(225, 224))
    with pytest.raises(ValueError, match="2 widths, 3 strides and 2 kernels: one of each"):
        ConvStem(4, image_size=8, widths=(2, 3), strides=(2, 2, 2))
    with pytest.raises(ValueError, match="kernel 4 with stride 2: give an odd kernel, or one as large as its stride"):
        ConvStem(4, image_size=8, widths=(2,), kernels=(4,))
    with pytest.raises(ValueError, match="width 3, stride 0 and kernel 3: each is 1 or more"):
        ConvStem(4, image_size=8, widths=(3,), strides=(0,))
    model = small()
    with pytest.raises(ValueError, match=r"of 50 x 40, but the stem was built for 40 x 40: .*resize\(\(50, 40\)"):
        model(torch.randn(1, 3, 50, 40))
    with pytest.raises(ValueError, match="have 5 channels, but the model was built for channels=3"):
        model(torch.randn(1, 5, 40, 40))
    with pytest.raises(ValueError, match="43 x 43"):
        model.resize(43)
    assert model.patches.image_size == (40, 40)
    with pytest.raises(ValueError, match="unknown variant 'C-2GF'; known: P-1GF"):
        early_conv("C-2GF")
