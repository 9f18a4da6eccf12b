"""Swin V1 and V2 against timm, torchvision and transformers, published counts, and their literal equations."""

import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import nn

from attention_notes.claims import close, find, load_facts, rounds_to
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.nn.windows import ContinuousPositionBias, Windows
from attention_notes.papers.swin import (
    VARIANTS,
    Block,
    CosineWindowAttention,
    InWindows,
    PatchMerging,
    PostNormMerging,
    PreNorm,
    ResPostNorm,
    WindowAttention,
    swin,
)
from attention_notes.papers.swin.weights import TORCHVISION_ROWS, sizes
from attention_notes.papers.vit import SelfAttention
from attention_notes.weights import layouts, load_weights, to_timm
from attention_notes.weights.layouts import Layout

# exact, as timm counts; the paper and the authors' MODELHUB.md print them rounded, and so the GMACs
RECORDED = load_facts("swin")["variants"]
TIMM_NAMES = {
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_l": "swin_large_patch4_window7_224",
    "swin_b_384": "swin_base_patch4_window12_384",
    "swin_l_384": "swin_large_patch4_window12_384",
    "swinv2_t": "swinv2_tiny_window8_256",
    "swinv2_s": "swinv2_small_window8_256",
    "swinv2_b": "swinv2_base_window8_256",
    "swinv2_t_window16": "swinv2_tiny_window16_256",
    "swinv2_s_window16": "swinv2_small_window16_256",
    "swinv2_b_window16": "swinv2_base_window16_256",
    "swinv2_l": "swinv2_large_window12_192",
}
PARAMETERS = {variant: RECORDED[variant]["parameters"] for variant in TIMM_NAMES}
GMACS = {variant: find(line["published"]).value for variant, line in RECORDED.items() if "published" in line}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
VERSIONS = pytest.mark.parametrize("version", ["swin_t", "swinv2_t"])

# a grid that windows of 3 x 5 tile in all stages (12 x 20, 6 x 10, 3 x 5), and one that they tile in none
BATCH, CHANNELS, CLASSES, PATCH, WINDOW = 2, 7, 11, (2, 3), (3, 5)
TILED, RAGGED = (24, 60), (34, 66)
SIZES = {"dim": 30, "depths": (2, 3, 2), "heads": (3, 5, 2), "drop_path": 0.0, "patch": PATCH}


def small(version, *, image_size=TILED, window=WINDOW, **overrides):
    options = {"num_classes": CLASSES, "channels": CHANNELS, **SIZES, **overrides}
    return randomised(swin(version, image_size=image_size, window=window, **options)).eval()


def randomised(model):
    """Norms start at one or zero, biases at zero, tables near it: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if "logit_scale" in name:
            nn.init.normal_(parameter, mean=1.0, std=0.3)
            parameter.data[0] = math.log(150)  # above the bound
        elif parameter.ndim == 1 or "table" in name or "network" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model


def images(model, batch=BATCH, **options):
    return torch.randn(batch, model.patches.channels, *model.patches.image_size, **options)


SECOND = "torchvision, second version"


def translated(model, name, tensors=None):
    """A model's tensors, or others under their names, as somebody else names and shapes them.

    V2 of torchvision has one bias for queries, keys and values, whose part for keys every forward pass puts to zero.
    """
    if name != SECOND:
        return layouts(model)[name].to_theirs(model, tensors)
    ours, theirs = "stages.{i}.blocks.{j}.attention.", "features.{2i+1}.{j}.attn."
    own = {"bias.network": "cpb_mlp", "logit_scale": "logit_scale", "query_bias": "q_bias", "value_bias": "v_bias"}
    rows = (*((ours + a, theirs + b) for a, b in own.items()), *TORCHVISION_ROWS)
    found = Layout(name, rows, sizes=sizes).to_theirs(model, tensors)
    for query in [n for n in found if n.endswith("q_bias")]:
        q, v = found.pop(query), found.pop(query.replace("q_bias", "v_bias"))
        found[query.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros_like(q), v])
    return found


def assert_same(ours, theirs, name, read=lambda output: output):
    """The same weights give the same outputs, the same gradient of the images and of every parameter."""
    missing = theirs.load_state_dict(translated(ours, name), strict=False)
    assert not missing.unexpected_keys
    assert [k for k in missing.missing_keys if "relative_" not in k or name != SECOND] == []  # its buffers
    theirs.eval()
    x = images(ours, dtype=ours.norm.weight.dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), read(theirs(y))
    assert close(a, b)
    toward = torch.randn_like(a)
    parameters = dict(ours.named_parameters())
    got = dict(zip(parameters, torch.autograd.grad(a, parameters.values(), toward, retain_graph=True), strict=True))
    got = translated(ours, name, got)
    expected = dict(theirs.named_parameters())
    assert got.keys() == expected.keys()
    for each, gradient in zip(
        expected, torch.autograd.grad(b, expected.values(), toward, retain_graph=True), strict=True
    ):
        assert gradient.abs().max() > 0, each
        assert close(got[each], gradient), each
    assert close(torch.autograd.grad(a, x, toward)[0], torch.autograd.grad(b, y, toward)[0])


def timms(version, *, image_size=TILED, window=WINDOW, **options):
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    kind = SwinTransformer if version == "swin_t" else SwinTransformerV2
    return kind(
        img_size=image_size,
        patch_size=PATCH,
        in_chans=CHANNELS,
        num_classes=CLASSES,
        embed_dim=SIZES["dim"],
        depths=SIZES["depths"],
        num_heads=SIZES["heads"],
        window_size=window,
        **options,
    )


@DTYPES
@VERSIONS
def test_outputs_and_gradients_equal_those_of_timm(version, dtype):
    assert_same(small(version).to(dtype), timms(version).to(dtype), "timm")


@DTYPES
@VERSIONS
def test_outputs_and_gradients_equal_those_of_torchvision_also_where_maps_are_padded(version, dtype):
    from torchvision.models import swin_transformer as reference

    second = version == "swinv2_t"
    theirs = reference.SwinTransformer(
        list(PATCH),
        SIZES["dim"],
        list(SIZES["depths"]),
        list(SIZES["heads"]),
        list(WINDOW),
        num_classes=CLASSES,
        block=reference.SwinTransformerBlockV2 if second else reference.SwinTransformerBlock,
        downsample_layer=reference.PatchMergingV2 if second else reference.PatchMerging,
    )  # three channels only
    name = SECOND if second else "torchvision"
    assert_same(small(version, image_size=RAGGED, channels=3).to(dtype), theirs.to(dtype), name)


@DTYPES
@VERSIONS
def test_outputs_and_gradients_equal_those_of_transformers_also_where_maps_are_padded(version, dtype):
    import transformers

    second = version == "swinv2_t"
    config = (transformers.Swinv2Config if second else transformers.SwinConfig)(
        image_size=RAGGED,
        patch_size=PATCH,
        num_channels=CHANNELS,
        embed_dim=SIZES["dim"],
        depths=SIZES["depths"],
        num_heads=SIZES["heads"],
        window_size=3,  # square windows only
        num_labels=CLASSES,
        attn_implementation="eager" if second else "sdpa",  # V1's eager softmax runs in float32, whatever the dtype
    )
    kind = transformers.Swinv2ForImageClassification if second else transformers.SwinForImageClassification
    ours, name = small(version, image_size=RAGGED, window=3), "transformers" if second else "transformers, as loaded"
    assert_same(ours.to(dtype), kind(config).to(dtype), name, read=lambda output: output.logits)


@VERSIONS
def test_the_four_maps_equal_those_of_timm(version):
    ours, theirs = small(version), timms(version).eval()
    theirs.load_state_dict(to_timm(ours))
    x = images(ours)
    maps = ours.features(x)
    for a, b in zip(maps, theirs.forward_intermediates(x, intermediates_only=True), strict=True):
        assert close(a, b)
    assert [tuple(m.shape[1:]) for m in maps] == [(30, 12, 20), (60, 6, 10), (120, 3, 5)]


def test_a_v2_tuned_with_larger_windows_equals_timms_with_its_pretrained_windows():
    theirs = timms("swinv2_t", image_size=(48, 120), window=(6, 10), pretrained_window_sizes=(WINDOW,) * 3)
    ours = small("swinv2_t").resize((48, 120), window=(6, 10))
    assert_same(ours, theirs, "timm")


LARGER = {"image_size": (48, 120), "window": (6, 10)}


def test_a_v2_in_larger_windows_is_the_same_model_when_it_comes_back_from_a_file(tmp_path):
    """Its network of offsets is as large for every window: the state has to say which it was trained in."""
    model = small("swinv2_t").resize(**LARGER)
    x = images(model)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    for load in (lambda other: other.load_state_dict(state), lambda other: load_weights(other, state)):
        other = small("swinv2_t", **LARGER)
        assert not close(other(x), model(x))
        load(other)
        assert torch.equal(other(x), model(x))
    with torch.device("meta"):
        other = swin("swinv2_t", num_classes=CLASSES, channels=CHANNELS, **SIZES, **LARGER)
    other.load_state_dict(state, assign=True)
    assert torch.equal(other.eval()(x), model(x))
    x = images(model.resize(TILED, window=WINDOW))
    assert torch.equal(other.resize(TILED, window=WINDOW)(x), model(x))


def test_a_state_that_does_not_say_in_which_windows_it_was_trained_leaves_a_v2_as_it_was_made():
    model = small("swinv2_t").resize(**LARGER)
    x, silent = images(model), {k: v for k, v in model.state_dict().items() if not k.endswith("trained")}
    assert silent.keys() == dict(model.named_parameters()).keys()
    for state in (silent, to_timm(model)):
        tuned, small_windows = small("swinv2_t").resize(**LARGER), small("swinv2_t")
        for other in (tuned, small_windows):
            load_weights(other, state)
        assert torch.equal(tuned(x), model(x))
        assert torch.equal(small_windows.resize(**LARGER)(x), model(x))
    tuned.load_state_dict(silent, strict=True)
    with pytest.raises(RuntimeError, match=r"size mismatch for stages\.0\.blocks\.0\.attention\.bias\.trained"):
        tuned.load_state_dict({**silent, "stages.0.blocks.0.attention.bias.trained": torch.tensor([3, 5, 7])})


def test_a_v1_tuned_with_larger_windows_interpolates_its_tables_as_the_authors_do():
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple

    model = small("swin_t", window=3)
    tables = {name: p.detach().clone() for name, p in model.named_parameters() if name.endswith("table")}
    model.resize((48, 120), window=5)
    assert len(tables) == 7
    for name, table in tables.items():
        heads = table.shape[0]
        expected = resize_rel_pos_bias_table_simple(table.flatten(1).T, (5, 5), (81, heads))
        assert close(model.get_parameter(name).flatten(1).T, expected)


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return swin(variant, **options)


@pytest.mark.parametrize(("variant", "count"), PARAMETERS.items())
def test_every_variant_has_exactly_the_parameters_of_timm(variant, count):
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(TIMM_NAMES[variant], num_classes=1000)
    assert count_parameters(on_meta(variant)) == count == count_parameters(theirs)


@pytest.mark.parametrize(("variant", "printed"), {"swinv2_h": "658M", "swinv2_g": "3.0B"}.items())
def test_the_huge_and_the_giant_have_the_parameters_of_the_paper(variant, printed):
    assert rounds_to(count_parameters(on_meta(variant)), printed)


def test_every_variant_is_counted():
    assert PARAMETERS.keys() | {"swinv2_h", "swinv2_g"} == VARIANTS.keys()


@pytest.mark.parametrize(("variant", "printed"), GMACS.items())
def test_the_cost_is_the_one_that_is_published(variant, printed):
    """The authors' count leaves V2's position networks out: they run once a pass, whatever the batch."""
    model = on_meta(variant)
    networks = [m for m in model.modules() if isinstance(m, ContinuousPositionBias)]
    once = sum(count_macs(m.network, m.coordinates) for m in networks)
    assert rounds_to(count_macs(model, images(model, 1, device="meta")) - once, printed)


def test_the_cost_follows_from_equation_2():
    model = small("swin_t")
    expected = 12 * 20 * CHANNELS * 6 * 30 + 120 * CLASSES
    for (rows, columns), c, depth in zip(model.grids, model.widths, SIZES["depths"], strict=True):
        tokens = rows * columns
        expected += depth * (4 * tokens * c * c + 2 * 15 * tokens * c + 8 * tokens * c * c)
        expected += tokens * 4 * (c // 2) * c * (c > 30)
    assert count_macs(model, images(model, 1)) == expected


@pytest.mark.parametrize("shifted", [False, True])
def test_window_attention_equals_equation_4_token_by_token(shifted):
    """No roll and no mask here: a query sees what lies in its own, shifted, window."""
    layer = randomised(WindowAttention(6, heads=3, windows=Windows((6, 10), window=(3, 5), shifted=shifted))).double()
    x = torch.randn(1, 6, 10, 6, dtype=torch.float64)
    q, k, v = rearrange(layer.qkv(x[0]), "y x (part h d) -> part h y x d", part=3, h=3)
    out = torch.empty(6, 10, 6, dtype=torch.float64)
    by = (1, 2) if shifted else (0, 0)

    def window(y, x):
        return (y - by[0]) // 3, (x - by[1]) // 5

    places = [(y, x) for y in range(6) for x in range(10)]
    for y, x_ in places:
        seen = [(a, b) for a, b in places if window(a, b) == window(y, x_)]
        rows, columns = torch.tensor(seen).T
        bias = layer.bias.table[:, y - rows + 2, x_ - columns + 4]
        scores = (q[:, y, x_, None] * k[:, rows, columns]).sum(-1) / math.sqrt(2) + bias
        out[y, x_] = (scores.softmax(-1)[..., None] * v[:, rows, columns]).sum(1).flatten()
    assert close(layer(x)[0], layer.output(out))


def test_cosine_attention_equals_equation_2_of_v2():
    windows = Windows((3, 10), window=(3, 5), shifted=False)
    layer = randomised(CosineWindowAttention(6, heads=3, windows=windows)).double()
    x = torch.randn(2, 3, 10, 6, dtype=torch.float64)
    tokens = layer.qkv(windows.cut(x))
    q, k, v = (rearrange(t, "s n (h d) -> s h n d", h=3) for t in tokens.chunk(3, -1))
    q = q + layer.query_bias.view(1, 3, 1, 2)
    v = v + layer.value_bias.view(1, 3, 1, 2)
    temperature = (-layer.logit_scale).exp().clamp(min=0.01)
    scores = F.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1) / temperature + layer.bias()
    mixed = rearrange(scores.softmax(-1) @ v, "s h n d -> s n (h d)")
    assert close(layer(x), windows.join(layer.output(mixed)))


def test_cosine_attention_does_not_care_how_long_queries_and_keys_are():
    layer = randomised(CosineWindowAttention(6, heads=3, windows=Windows((6, 10), window=(3, 5), shifted=True)))
    x = torch.randn(2, 6, 10, 6)
    before = layer(x)
    layer.qkv.weight.data[:12] *= 19.0
    layer.query_bias.data *= 19.0
    assert close(layer(x), before)


def test_one_window_as_large_as_the_map_is_global_attention():
    layer = WindowAttention(6, heads=3, windows=Windows((3, 5), window=(7, 5), shifted=True))
    everything = SelfAttention(6, heads=3)
    everything.load_state_dict({k: t for k, t in layer.state_dict().items() if "bias.table" not in k})
    nn.init.zeros_(layer.bias.table)
    x = torch.randn(2, 3, 5, 6)
    assert close(layer(x).flatten(1, 2), everything(x.flatten(1, 2)))


def reach(model, row, column, stage=0):
    """Which pixels act on one place of a stage's map."""
    x = images(model, 1).double().requires_grad_()
    model.double().features(x)[stage][0, :, row, column].square().sum().backward()
    return x.grad.abs().sum((0, 1)) > 0


def blocks(*shifts, side=12, merge=False):
    """A model of one stage whose blocks are shifted or not, at will, on a grid with windows of 3 x 3."""
    depths, heads = ((len(shifts), 1), (2, 2)) if merge else ((len(shifts),), (2,))
    sizes = {**SIZES, "dim": 6, "depths": depths, "heads": heads, "patch": 1}
    model = small("swin_t", image_size=side, window=3, **sizes)
    for block, shifted in zip(model.stages[0].blocks, shifts, strict=True):
        block.attention.windows = Windows((side, side), window=(3, 3), shifted=shifted)
    return model


def test_without_a_shift_nothing_crosses_a_window_however_deep():
    seen = reach(blocks(False, False, False, False), 4, 4)
    assert seen[3:6, 3:6].all()
    assert seen.sum() == 9


def test_with_a_shift_a_token_sees_the_windows_beside_its_own():
    seen = reach(blocks(False, True), 4, 4)
    assert seen[3:9, 3:9].all()  # its shifted window, rows and columns 4 to 6, touches four plain ones
    assert seen.sum() == 36


def test_every_two_blocks_carry_further_by_one_window_to_each_side():
    seen = reach(blocks(False, True, False, True, side=18), 10, 10)
    assert seen[6:18, 6:18].all()
    assert seen.sum() == 144


def test_merging_too_crosses_windows():
    seen = reach(blocks(False, merge=True), 0, 0, stage=1)
    assert seen[:6, :6].all()  # a window of 3 x 3 merged tokens
    assert seen.sum() == 36


def test_shifted_windows_do_not_leak_across_the_border():
    model = blocks(True)
    seen = reach(model, 11, 11)
    assert seen[10:, 10:].all()  # what is left of its window at the corner
    assert seen.sum() == 4
    for block in model.stages[0].blocks:
        block.attention.windows.mask.zero_()
    leaked = reach(model, 11, 11)
    assert leaked[0, 0]
    assert leaked[0, 10:].all()
    assert leaked.sum() == 9


def test_the_second_block_of_a_stage_is_shifted_by_half_a_window_unless_there_is_only_one():
    model = on_meta("swin_t")
    shifts = [[b.attention.windows.shift for b in stage.blocks] for stage in model.stages]
    assert shifts == [[(0, 0), (3, 3)]] * 2 + [[(0, 0), (3, 3)] * 3] + [[(0, 0), (0, 0)]]


def test_a_mask_of_minus_100_does_not_hide_a_pair_in_v2_and_ours_does():
    """The authors' code adds -100. Scores reach from -100 to 100 and more, so a masked twin beats an opposite."""
    windows = Windows((4, 1), window=(2, 1), shifted=True)  # the last window holds row 3, and row 0, which came round
    layer = CosineWindowAttention(2, heads=1, windows=windows)
    layer.qkv.weight.data = torch.cat([torch.eye(2), -torch.eye(2), torch.eye(2)])  # its own key is what it is not
    layer.logit_scale.data.fill_(math.log(100))
    x = torch.tensor([[-1.0, 0], [0, 1], [0, 1], [1, 0]]).view(1, 4, 1, 2)

    def stranger():
        with record_attention(layer) as maps:
            layer(x)
        return maps[""][1, 0, 0, 1]

    assert stranger() == 0
    windows.mask = windows.mask.clamp(min=-100)
    assert stranger() > 0.99


@pytest.mark.parametrize("kind", [PatchMerging, PostNormMerging])
def test_merging_halves_a_map_rounded_up_and_doubles_its_width(kind):
    assert kind(6)(torch.randn(2, 7, 10, 6)).shape == (2, 4, 5, 12)


def test_merging_in_v2_is_a_convolution_and_a_norm():
    layer = randomised(PostNormMerging(6))
    x = torch.randn(2, 8, 10, 6)
    weight = rearrange(layer.reduction.weight, "o (px py c) -> o c py px", px=2, py=2)
    convolved = F.conv2d(x.movedim(-1, 1), weight, stride=2).movedim(1, -1)
    assert close(layer(x), layer.norm(convolved))


def test_an_untrained_block_of_v2_adds_nothing_and_one_of_v1_does():
    x = torch.randn(2, 6, 6, 6)
    windows = Windows((6, 6), window=(3, 3), shifted=True)
    second = Block(6, heads=3, windows=windows, attention=CosineWindowAttention, residual=ResPostNorm)
    assert torch.equal(second(x), x)
    assert not torch.equal(Block(6, heads=3, windows=windows)(x), x)


def test_what_a_branch_adds_has_one_size_in_v2_and_grows_with_the_branch_in_v1():
    x = torch.randn(2, 6, 6, 16)
    first, second = PreNorm(16, drop_path=0.0), ResPostNorm(16, drop_path=0.0)
    nn.init.ones_(second.norm.weight)
    branch = nn.Linear(16, 16, bias=False)
    added = []
    for residual in (first, second):
        small = (residual(x, branch) - x).std().item()
        branch.weight.data *= 1000
        added.append((small, (residual(x, branch) - x).std().item()))
    assert added[0][1] / added[0][0] == pytest.approx(1000, rel=1e-3)
    assert added[1][1] / added[1][0] == pytest.approx(1, rel=1e-3)


def test_whole_branches_are_dropped_more_often_the_deeper_the_block():
    model = on_meta("swin_t")
    rates = [b.mlp_residual.drop_path.p for stage in model.stages for b in stage.blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


@VERSIONS
def test_rates_of_layers_are_those_of_simmim_by_the_authors_of_swin(version):
    """``get_swin_layer`` of SimMIM's ``optimizer.py``: a merging has the rate of the block before it."""
    depths = SIZES["depths"]

    def layer(name: str) -> int:
        _, stage, part, block, *_ = f"{name}...".split(".")
        if name.startswith("patch"):
            return 0
        if not name.startswith("stages"):
            return sum(depths) + 1
        return sum(depths[: int(stage)]) + (int(block) + 1 if part == "blocks" else 0)

    model = small(version)
    rate = {p: group["lr"] for group in model.parameter_groups(1.0, layer_decay=0.8) for p in group["params"]}
    assert {n: rate[p] for n, p in model.named_parameters()} == {
        n: pytest.approx(0.8 ** (sum(depths) + 1 - layer(n))) for n, _ in model.named_parameters()
    }


@VERSIONS
def test_weights_of_attentions_and_what_they_give_are_dropped_each_by_its_own_rate(version):
    parts = [m for m in small(version).modules() if isinstance(m, InWindows)]
    assert {(m.attention_dropout.p, m.projection_dropout.p) for m in parts} == {(0.0, 0.0)}
    model = small(version, attention_dropout=0.2, projection_dropout=0.3)
    parts = [m for m in model.modules() if isinstance(m, InWindows)]
    assert [(m.attention_dropout.p, m.projection_dropout.p) for m in parts] == [(0.2, 0.3)] * 7


@pytest.mark.parametrize("kind", [WindowAttention, CosineWindowAttention])
def test_an_attention_drops_weights_before_its_last_map_and_what_it_gives_after_it_in_training_only(kind):
    windows = Windows((4, 6), window=(2, 3), shifted=True)
    part = kind(12, heads=3, windows=windows, attention_dropout=0.4, projection_dropout=0.3)
    x, mixed = torch.randn(64, 4, 6, 12), []
    part.output.register_forward_hook(lambda _, given, out: mixed.append((given[0], out)))
    found, whole = part(x), part.eval()(x)
    (dropped, projected), (expected, _) = mixed
    assert not torch.allclose(dropped, expected)
    kept = found != 0
    assert kept.float().mean() == pytest.approx(0.7, abs=0.02)
    torch.testing.assert_close(found[kept], windows.join(projected)[kept] / 0.7)
    torch.testing.assert_close(whole, windows.join(mixed[1][1]))


def test_the_giant_normalises_its_stream_after_every_sixth_block():
    kinds = [[type(m).__name__ for m in stage.blocks] for stage in on_meta("swinv2_g").stages]
    assert [k.count("LayerNorm") for k in kinds] == [0, 0, 7, 0]
    assert [i for i, kind in enumerate(kinds[2]) if kind == "LayerNorm"] == [7 * i + 6 for i in range(7)]
    model = swin("swinv2_t", norm_every=2, image_size=RAGGED, window=3, **SIZES)
    assert model(torch.randn(1, 3, *RAGGED)).shape == (1, 1000)


@VERSIONS
def test_a_resized_model_takes_other_images_and_goes_back_unchanged(version):
    model = small(version)
    x = images(model)
    before = model(x)
    model.resize(RAGGED)
    assert model(images(model)).shape == (BATCH, CLASSES)
    assert close(model.resize(TILED)(x), before)


def test_at_its_own_size_a_models_parts_are_not_even_told():
    model, told = small("swin_t"), []
    for part in model.modules():
        if isinstance(part, InWindows):
            part.regrid = lambda *_, **__: told.append(1)
    model.resize(list(TILED), window=WINDOW)
    assert told == []
    model.resize(TILED, window=3)
    assert len(told) == 7


def test_where_the_map_is_smaller_than_the_window_the_window_shrinks_and_grows_again():
    model = small("swinv2_t")
    windows = [stage.blocks[1].attention.windows for stage in model.stages]
    assert [w.window for w in windows] == [(3, 5)] * 3
    assert [w.shift for w in windows] == [(1, 2), (1, 2), (0, 0)]
    model.resize((12, 18))
    assert [s.blocks[1].attention.windows.window for s in model.stages] == [(3, 5), (3, 3), (2, 2)]
    model.resize((48, 120))
    assert [s.blocks[1].attention.windows.shift for s in model.stages] == [(1, 2)] * 3


def test_recorded_weights_have_a_row_of_windows_for_each_image():
    model = small("swin_t")
    x = images(model)
    with record_attention(model) as maps:
        model(x)
    assert list(maps)[:3] == [f"stages.{i}.blocks.{j}.attention" for i, j in [(0, 0), (0, 1), (1, 0)]]
    assert [m.shape for m in list(maps.values())[:3]] == [(BATCH * 16, 3, 15, 15)] * 2 + [(BATCH * 4, 5, 15, 15)]
    alone = model.stages[0].blocks[0].attention
    assert isinstance(alone, WindowAttention)


def test_unknown_names_and_sizes_that_do_not_fit_are_refused(unchecked):
    with pytest.raises(ValueError, match="unknown variant 'swin_xl'; known: swin_t, swin_s"):
        swin("swin_xl")
    with pytest.raises(ValueError, match="dim=32 is not divisible by heads=3"):
        swin("swin_t", dim=32)
    with pytest.raises(ValueError, match="3 depths but 4 numbers of heads"):
        swin("swin_t", depths=(2, 2, 2))
    with pytest.raises(ValueError, match="an image of 222 x 224 cannot be cut into patches of 4 x 4"):
        swin("swin_t", image_size=(222, 224))
    model = small("swin_t")
    with pytest.raises(
        ValueError, match=r"images of 34 x 60, but the model was built for 24 x 60.*resize\(\(34, 60\)\)"
    ):
        model(torch.randn(1, CHANNELS, 34, 60))


def test_the_pyramid_pooling_that_the_notes_saw_replaced_is_inside_upernet():
    from transformers.models.upernet import modeling_upernet

    config = modeling_upernet.UperNetConfig(
        backbone_config={"model_type": "swin", "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    )
    with torch.device("meta"):
        head = modeling_upernet.UperNetHead(config, in_channels=[96, 192, 384, 768])
    assert any(isinstance(m, modeling_upernet.UperNetPyramidPoolingModule) for m in head.modules())
