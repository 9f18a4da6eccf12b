"""ViT against timm, torchvision and transformers, against the paper's counts, and against its own literal equations."""

import itertools
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.chapters.data import digits, shifted
from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention, rollout
from attention_notes.nn.attention import attention_weights
from attention_notes.papers.vit import (
    VARIANTS,
    Block,
    ClassToken,
    MeanPooling,
    PatchEmbedding,
    SelfAttention,
    VisionTransformer,
    resize_positions,
    vit,
)
from attention_notes.weights import layouts, to_layout, to_timm
from attention_notes.weights.layouts import Layout

# exact: google-research/vision_transformer, vit_jax/models_test.py
PARAMETERS = {variant: line["parameters"] for variant, line in load_facts("vit")["variants"].items()}
MEAN_POOLED = {"S/16": 22_049_896, "S/32": 22_878_184, "B/16": 86_566_120, "B/32": 88_222_696}
GMACS = {variant: line["gmacs"] for variant, line in load_facts("vit")["variants"].items()}

# every dimension another prime: images 11 channels of 10 x 21, cut 2 x 3 into a grid of 5 x 7
CHANNELS, IMAGE, PATCH, GRID = 11, (10, 21), (2, 3), (5, 7)
HEADS, DIM, HIDDEN, DEPTH, CLASSES, BATCH = 13, 13 * 17, 19, 2, 23, 3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def small(*, image_size=IMAGE, patch=PATCH, channels=CHANNELS, dim=DIM, **overrides):
    patches = PatchEmbedding(dim, image_size=image_size, patch=patch, channels=channels)
    sizes = {"depth": DEPTH, "heads": HEADS, "hidden": HIDDEN, "num_classes": CLASSES} | overrides
    return randomised(VisionTransformer(patches, **sizes)).eval()


def randomised(model):
    """Norms start at one, biases and the class token at zero: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "token" in name or "positions" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
    return model


def images(model, batch=BATCH, **options):
    return torch.randn(batch, model.patches.channels, *model.patches.image_size, **options)


def assert_same(ours, theirs, name):
    """The same weights give the same logits, the same gradient of the images and of every parameter."""
    layout = layouts(ours)[name]
    theirs.load_state_dict(layout.to_theirs(ours), strict=True)
    theirs.eval()
    dtype = ours.positions.dtype
    x = images(ours, dtype=dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(y)
    b = getattr(b, "logits", b)
    assert close(a, b)
    toward = torch.randn_like(a)
    names = dict(ours.named_parameters())
    got = dict(zip(names, torch.autograd.grad(a, names.values(), toward, retain_graph=True), strict=True))
    got = layout.to_theirs(ours, got)
    expected = dict(theirs.named_parameters())
    assert got.keys() == expected.keys()
    gradients = torch.autograd.grad(b, expected.values(), toward, retain_graph=True)
    for name, gradient in zip(expected, gradients, strict=True):
        assert gradient.abs().max() > 0, name
        assert close(got[name], gradient), name
    assert close(torch.autograd.grad(a, x, toward)[0], torch.autograd.grad(b, y, toward)[0])


def timms(**overrides):
    from timm.models.vision_transformer import VisionTransformer as Reference

    sizes = {
        "img_size": IMAGE,
        "patch_size": PATCH,
        "in_chans": CHANNELS,
        "embed_dim": DIM,
        "depth": DEPTH,
        "num_heads": HEADS,
        "mlp_ratio": HIDDEN / DIM + 1e-9,
        "num_classes": CLASSES,
    }
    return Reference(**(sizes | overrides))


@DTYPES
@pytest.mark.parametrize("pooling", [ClassToken, MeanPooling])
def test_outputs_and_gradients_equal_those_of_timm(dtype, pooling):
    theirs = timms() if pooling is ClassToken else timms(class_token=False, global_pool="avg", fc_norm=False)
    assert_same(small(pooling=pooling).to(dtype), theirs.to(dtype), "timm")


@DTYPES
def test_outputs_and_gradients_equal_those_of_torchvision(dtype):
    from torchvision.models.vision_transformer import VisionTransformer as Reference

    theirs = Reference(35, 5, DEPTH, HEADS, DIM, HIDDEN, num_classes=CLASSES)  # square, three channels only
    assert_same(small(image_size=35, patch=5, channels=3).to(dtype), theirs.to(dtype), "torchvision, as loaded")


def huggingfaces(kind, implementation):
    from transformers import ViTConfig

    return kind(
        ViTConfig(
            image_size=IMAGE,
            patch_size=PATCH,
            num_channels=CHANNELS,
            hidden_size=DIM,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=HIDDEN,
            num_labels=CLASSES,
            layer_norm_eps=1e-6,  # theirs is 1e-12 by default; the authors' code and timm have 1e-6
            attn_implementation=implementation,
        )
    )


@pytest.mark.parametrize(
    ("dtype", "implementation"),
    # their eager attention takes its softmax in float32, whatever the dtype: no float64 to be equal to
    [(torch.float32, "eager"), (torch.float32, "sdpa"), (torch.float64, "sdpa")],
)
def test_outputs_and_gradients_equal_those_of_transformers(dtype, implementation):
    from transformers import ViTForImageClassification

    theirs = huggingfaces(ViTForImageClassification, implementation).to(dtype)
    assert_same(small().to(dtype), theirs, "transformers, as loaded")


def test_tokens_and_recorded_weights_equal_those_of_transformers():
    from transformers import ViTModel

    ours, theirs = small(num_classes=None), huggingfaces(ViTModel, "eager").eval()
    state = to_layout(ours, "transformers, as loaded")
    theirs.load_state_dict({name.removeprefix("vit."): t for name, t in state.items()}, strict=False)
    x = images(ours)
    with record_attention(ours) as maps:
        tokens = ours.tokens(x)
    their = theirs(x, output_attentions=True)
    assert close(tokens, their.last_hidden_state)
    assert close(ours(x), their.last_hidden_state[:, 0])
    assert list(maps) == ["blocks.0.attention", "blocks.1.attention"]
    for a, b in zip(maps.values(), their.attentions, strict=True):
        assert close(a, b)


def test_two_layers_of_the_base_model_equal_those_of_timm_at_full_width():
    import timm

    ours = randomised(vit("B/16", depth=2)).eval()
    theirs = timm.create_model("vit_base_patch16_224", depth=2).eval()
    theirs.load_state_dict(to_timm(ours))
    with torch.no_grad():
        assert close(ours(x := images(ours, 2)), theirs(x))


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return vit(variant, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_the_authors_and_of_timm(variant):
    import timm

    size, patch = variant.split("/")
    name = {"Ti": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge"}[size]
    with torch.device("meta"):
        theirs = timm.create_model(f"vit_{name}_patch{patch}_224", num_classes=1000)
    assert count_parameters(on_meta(variant)) == PARAMETERS[variant] == count_parameters(theirs)


@pytest.mark.parametrize(("variant", "count"), MEAN_POOLED.items())
def test_mean_pooling_saves_the_class_token_and_its_position(variant, count):
    assert count_parameters(on_meta(variant, pooling=MeanPooling)) == count


@pytest.mark.parametrize(("variant", "gmacs"), GMACS.items())
def test_the_cost_is_the_one_that_is_published(variant, gmacs):
    model = on_meta(variant)
    assert round(count_macs(model, images(model, 1, device="meta")) / 1e9, 2) == gmacs


def test_the_cost_follows_from_the_equations():
    model, n = small(), 1 + 35
    each = n * DIM * 4 * DIM + 2 * n * n * DIM + n * 2 * DIM * HIDDEN
    expected = 35 * CHANNELS * 6 * DIM + DEPTH * each + DIM * CLASSES
    assert count_macs(model, images(model, 1)) == expected


@DTYPES
def test_the_patch_embedding_is_a_convolution_whose_stride_is_its_kernel(dtype):
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS).to(dtype)
    nn.init.normal_(patches.projection.bias)
    x = torch.randn(BATCH, CHANNELS, *IMAGE, dtype=dtype)
    weight = patches.projection.weight.unflatten(1, (CHANNELS, *PATCH))
    convolved = F.conv2d(x, weight, patches.projection.bias, stride=PATCH)
    assert close(patches(x), convolved.flatten(2).mT)


def test_patches_are_read_row_by_row_and_channel_first():
    patches = PatchEmbedding(1, image_size=(2, 6), patch=(1, 3), channels=2)
    patches.projection.weight.data = torch.tensor([[100000.0, 10000.0, 1000.0, 100.0, 10.0, 1.0]])
    first = torch.tensor([[1.0, 2, 3, 7, 8, 9], [2, 2, 2, 3, 3, 3]])
    second = torch.tensor([[4.0, 5, 6, 1, 1, 1], [5, 5, 5, 4, 4, 4]])
    assert patches(torch.stack([first, second])[None]).flatten().tolist() == [123456, 789111, 222555, 333444]


def test_a_token_sees_its_own_patch_only():
    patches = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    x = torch.randn(1, CHANNELS, *IMAGE)
    y = x.clone()
    y[..., 4:6, 15:18] += 1  # row 2 and column 5 of the grid
    changed = (patches(x) != patches(y)).any(-1).flatten().nonzero().flatten()
    assert changed.tolist() == [2 * 7 + 5]


@DTYPES
def test_attention_equals_equations_5_to_8_head_by_head(dtype):
    msa = SelfAttention(DIM, heads=HEADS).to(dtype)
    z = torch.randn(BATCH, 7, DIM, dtype=dtype)
    width = DIM // HEADS
    per_head = []
    for head in range(HEADS):
        q, k, v = (
            F.linear(z, *(p[part * DIM + head * width :][:width] for p in (msa.qkv.weight, msa.qkv.bias)))
            for part in range(3)
        )
        per_head.append(attention_weights(q, k) @ v)
    assert close(msa(z), msa.output(torch.cat(per_head, -1)))


@DTYPES
def test_the_encoder_equals_pytorchs_own_transformer_encoder(dtype):
    ours = Block(DIM, heads=HEADS, hidden=HIDDEN).to(dtype)
    randomised(ours)
    theirs = nn.TransformerEncoderLayer(
        DIM, HEADS, HIDDEN, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True, dtype=dtype
    )
    rows = (
        ("attention_norm", "norm1"),
        ("attention.qkv.weight", "self_attn.in_proj_weight"),
        ("attention.qkv.bias", "self_attn.in_proj_bias"),
        ("attention.output", "self_attn.out_proj"),
        ("mlp_norm", "norm2"),
        ("mlp.expand", "linear1"),
        ("mlp.contract", "linear2"),
    )
    theirs.load_state_dict(Layout("PyTorch", rows).to_theirs(ours))
    z = torch.randn(BATCH, 7, DIM, dtype=dtype)
    assert close(ours(z), theirs(z))


def test_with_one_token_attention_is_a_linear_map():
    msa = SelfAttention(DIM, heads=HEADS)
    z = torch.randn(BATCH, 1, DIM)
    value = F.linear(z, msa.qkv.weight[2 * DIM :], msa.qkv.bias[2 * DIM :])
    assert close(msa(z), msa.output(value))


def test_without_layers_the_class_token_never_sees_the_image():
    model = small(depth=0)
    a, b = model(images(model)), model(images(model))
    assert torch.equal(a, b)
    assert close(a[0], model.head(model.norm(model.pooling.token + model.positions[:, :1]))[0, 0])


@pytest.mark.parametrize("pooling", [ClassToken, MeanPooling])
def test_the_encoder_does_not_know_where_patches_are_but_for_their_positions(pooling):
    model = small(pooling=pooling)
    x = images(model)
    order = torch.randperm(35)
    cut = x.unflatten(3, (7, 3)).unflatten(2, (5, 2)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    shuffled = cut[:, order].unflatten(1, GRID).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    before, moved = model(x), model(shuffled)
    extra = model.pooling.extra
    model.positions.data[:, extra:] = model.positions[:, extra:][:, order].clone()
    assert close(model(shuffled), before)
    assert not close(moved, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("to", [(11, 13), (3, 2), (5, 13), (5, 7)])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_resized_positions_equal_those_of_timm(dtype, to, extra):
    from timm.layers import resample_abs_pos_embed

    positions = torch.randn(1, extra + 35, 17).to(dtype)
    ours = resize_positions(positions, grid=GRID, to=to, extra=extra)
    theirs = resample_abs_pos_embed(positions, list(to), list(GRID), num_prefix_tokens=extra)
    assert torch.equal(ours, theirs)
    assert ours.dtype == dtype


def test_a_grid_turned_on_its_side_is_interpolated_too():
    positions = torch.randn(1, 36, 3)
    assert not torch.equal(resize_positions(positions, grid=(5, 7), to=(7, 5)), positions)


def test_resized_positions_of_a_plane_are_a_plane():
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    plane = torch.cat([torch.full((1, 1, 1), 100.0), (rows - 2 * columns).reshape(1, 35, 1)], 1).double()
    wide = resize_positions(plane, grid=(5, 7), to=(10, 14))
    assert wide[0, 0] == 100
    inner = wide[0, 1:].reshape(10, 14)[4:-4, 4:-4]
    torch.testing.assert_close(inner.diff(dim=0), torch.full_like(inner[1:], 0.5))
    torch.testing.assert_close(inner.diff(dim=1), torch.full_like(inner[:, 1:], -1.0))


def test_a_resized_model_equals_timms_resized_model():
    ours, theirs = small(), timms()
    theirs.load_state_dict(to_timm(ours))
    theirs.eval().set_input_size((22, 39))
    assert ours.resize((22, 39)) is ours
    assert ours.positions.requires_grad
    assert close(ours(x := images(ours)), theirs(x))


def test_resizing_there_and_forward_keeps_what_was_frozen_and_what_fits():
    model = small()
    model.positions.requires_grad_(False)
    before = model.positions.clone()
    assert torch.equal(model.resize(IMAGE).positions, before)
    assert not model.resize((20, 42)).positions.requires_grad
    assert model.positions.shape == (1, 1 + 140, DIM)


def test_each_parameter_gets_a_gradient_and_samples_do_not_mix():
    model = small()
    x = images(model).requires_grad_()
    out = model(x)
    (gradient,) = torch.autograd.grad(out[1].sum(), x, retain_graph=True)
    assert gradient[1].abs().min() > 0
    assert not gradient[[0, 2]].any()
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_an_untrained_model_answers_otherwise_to_another_image():
    model = vit("Ti/16", depth=2, image_size=32).eval()
    a, b = model(images(model, 2))
    assert (a - b).abs().max() > 1e-3


def test_initial_scales_are_those_of_the_authors():
    model = vit("Ti/16", depth=1)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.patches.projection.weight.std().item() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.02)
    for part in model.blocks[0].attention.qkv.weight.chunk(3):
        assert part.abs().max().item() == pytest.approx((6 / (192 + 192)) ** 0.5, rel=0.01)
    assert not model.pooling.token.any()
    assert not model.head.bias.any()


def test_dropout_acts_in_training_only():
    model = small(dropout=0.5)
    x = images(model)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    assert sum(isinstance(m, nn.Dropout) and m.p == 0.5 for m in model.modules()) == 1 + 2 * DEPTH


def test_dropout_stands_after_every_linear_map_but_qkv_and_after_the_positions():
    model = small(dropout=1.0).train()
    x = images(model)
    assert not model.dropout(model.pooling.prepend(model.patches(x)) + model.positions).any()
    seen = {}
    for name in ("attention.qkv", "mlp.contract"):
        model.blocks[0].get_submodule(name).register_forward_hook(
            lambda _, given, out, name=name: seen.update({name: (given[0].any().item(), out.any().item())})
        )
    z = torch.randn(BATCH, 7, DIM)
    assert torch.equal(model.blocks[0](z), z), "what each branch adds is dropped"
    assert seen["attention.qkv"] == (True, True)
    assert not seen["mlp.contract"][0], "and the hidden layer, too"
    nothing = model.norm.bias.expand(BATCH, len(model.positions[0]), DIM)
    assert torch.equal(model.tokens(x), nothing), "neither patches nor positions are left"


@pytest.mark.parametrize("pooling", [ClassToken, MeanPooling])
def test_bfloat16_agrees(pooling):
    model = small(pooling=pooling, num_classes=None)
    x = images(model)
    with torch.no_grad():
        full = model(x)
        half = model.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max()


def test_one_graph_whatever_the_batch(unchecked):
    model = small()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 5):
        x = images(model, batch)
        assert close(compiled(x), model(x))


def test_exported_with_a_batch_of_any_size(unchecked):
    model = small()
    batch = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(model, (images(model, 2),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 7):
        x = images(model, size)
        assert close(exported(x), model(x))


def test_a_state_survives_saving(tmp_path):
    model, other = small(), small()
    torch.save(model.state_dict(), tmp_path / "vit.pt")
    other.load_state_dict(torch.load(tmp_path / "vit.pt"))
    x = images(model)
    assert torch.equal(model(x), other(x))


def test_overrides_reach_the_model_and_unknown_ones_are_refused():
    model = vit("S/32", num_classes=None, image_size=(6, 4), channels=1, patch=2, dim=10, depth=3, heads=5, hidden=7)
    assert model(torch.randn(2, 1, 6, 4)).shape == (2, 10)
    assert model.patches.grid == (3, 2)
    assert len(model.blocks) == 3
    with pytest.raises(TypeError, match="width"):
        vit("S/32", width=10)


def test_any_module_with_a_grid_and_a_width_makes_tokens():
    class Stem(nn.Conv2d):
        grid, dim = (4, 4), 6

        def forward(self, x):
            return super().forward(x).flatten(2).mT

    model = VisionTransformer(Stem(3, 6, 3, stride=2, padding=1), depth=1, heads=2, hidden=5, num_classes=7)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(
    ("image", "patch", "message"),
    [
        (225, 16, r"225 x 225 cannot be cut into patches of 16 x 16; .* fit: 224 x 224 and 240 x 240"),
        ((32, 50), (16, 7), r"32 x 50 cannot be cut into patches of 16 x 7; .* fit: 32 x 49 and 32 x 56"),
        (5, 7, r"5 x 5 cannot be cut into patches of 7 x 7; .* fit: 7 x 7$"),
    ],
)
def test_patches_that_do_not_tile_the_image_are_refused_with_the_sizes_that_do(unchecked, image, patch, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(4, image_size=image, patch=patch)
    with pytest.raises(ValueError, match=message):
        vit("B/16", image_size=image, patch=patch)


def test_other_bad_sizes_are_named(unchecked):
    model = small()
    with pytest.raises(ValueError, match=r"10 x 24, but the model was built for 10 x 21: .*image_size=\(10, 24\)"):
        model(torch.randn(1, CHANNELS, 10, 24))
    with pytest.raises(ValueError, match="have 3 channels, but the model was built for channels=11"):
        model(torch.randn(1, 3, *IMAGE))
    with pytest.raises(ValueError, match="dim=10 is not divisible by heads=3"):
        vit("B/16", dim=10, heads=3)
    with pytest.raises(ValueError, match=r"unknown variant 'B/15'; known: Ti/16, S/16, .*, H/14"):
        vit("B/15")
    with pytest.raises(ValueError, match=r"21 x 21 cannot be cut"):
        model.resize(21)
    assert model.patches.image_size == IMAGE
    with pytest.raises(ValueError, match="36 position embeddings, but 1 extra and a grid of 5 x 5 make 26"):
        resize_positions(model.positions, grid=(5, 5), to=(7, 7))


def test_rollout_by_hand():
    one = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    two = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    stack = {"a": torch.stack([one, one])[None], "b": torch.stack([2 * two - one, one])[None]}  # heads average to these
    by_hand = torch.tensor([[0.6, 0.4], [0.3, 0.7]]) @ torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    torch.testing.assert_close(rollout(stack)[0], by_hand)


def test_rollout_is_a_distribution_over_the_tokens_and_follows_the_order_of_layers():
    maps = {name: torch.randn(2, 3, 5, 5).softmax(-1) for name in "ab"}
    flow = rollout(maps)
    torch.testing.assert_close(flow.sum(-1), torch.ones(2, 5))
    assert not close(flow, rollout({name: maps[name] for name in "ba"}))


def test_rollout_refuses_what_is_no_self_attention(unchecked):
    for maps in ({}, {"a": torch.ones(1, 2, 3, 5)}, {"a": torch.ones(1, 2, 3, 3), "b": torch.ones(1, 2, 5, 5)}):
        with pytest.raises(ValueError, match="one sequence"):
            rollout(maps)


def test_timm_has_the_weights_that_the_notes_name():
    import timm

    assert timm.list_pretrained("vit_giant_patch14_dinov2*") == ["vit_giant_patch14_dinov2.lvd142m"]
    sizes = {"base": "B", "large": "L", "huge": "H"}
    for size, patch, image in itertools.product(sizes, (14, 16, 32), (224, 384)):
        if timm.list_pretrained(f"vit_{size}_patch{patch}_{image}.*orig_in21k*"):
            assert f"{sizes[size]}/{patch}" in VARIANTS


def test_giants_of_timm_are_not_of_this_paper():
    import timm

    with torch.device("meta"):
        giant = timm.create_model("vit_giant_patch14_dinov2.lvd142m", pretrained=False)
    names = {name for name, _ in giant.named_parameters()}
    assert {"blocks.0.ls1.gamma", "blocks.0.ls2.gamma"} <= names
    assert (giant.patch_embed.grid_size, giant.embed_dim, len(giant.blocks)) == ((37, 37), 1536, 40)


def test_digits_are_split_alike_every_time_and_no_image_is_in_both_parts():
    (images, labels), (unseen, truth) = digits()
    assert len(images) + len(unseen) == 1797
    assert (labels.bincount() / 3 - truth.bincount()).abs().max() <= 1
    assert torch.equal(unseen, digits()[1][0])
    assert torch.cdist(unseen.flatten(1), images.flatten(1)).min() > 0
    assert (images.min(), images.max()) == (0, 1)
    with pytest.raises(ValueError, match="held_out=1 leaves no image"):
        digits(held_out=1)


def test_shifted_images_move_by_one_pixel_and_zeros_move_in():
    image = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)
    moves = shifted(image)
    assert moves.shape == (9, 1, 1, 3, 4)
    assert torch.equal(moves[4], image)
    assert moves[0, 0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 5, 6, 7]]
    assert moves[8, 0, 0].tolist() == [[6, 7, 8, 0], [10, 11, 12, 0], [0, 0, 0, 0]]
