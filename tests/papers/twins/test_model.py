"""Twins against timm, against the papers' counts, and against its own literal equations."""

from functools import cache
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.inspect.attention_maps import see
from attention_notes.nn.attention import attention, attention_weights
from attention_notes.papers.pvt import SpatialReductionAttention, pvt
from attention_notes.papers.twins import (
    VARIANTS,
    EncodedBlock,
    LocallyGroupedAttention,
    PositionEncodingGenerator,
    gsa,
    lsa,
    twins,
)
from attention_notes.weights import layouts, to_timm

# parameters with a head for 1000 classes, GMACs at 224 pixels; timm has the same parameters
COUNTS = {v: (line["parameters"], line["gmacs"]) for v, line in load_facts("twins")["variants"].items()}
# every dimension another prime, where the pyramid leaves the choice; windows do not tile the maps
CHANNELS, CLASSES, BATCH = 5, 23, 3
SMALL = {
    "dims": (14, 22, 39, 34),
    "depths": (1, 2, 3, 2),
    "heads": (7, 11, 13, 17),
    "ratios": (4, 2, 2, 1),
    "windows": (3, 5, 3, 2),
    "expansions": (3, 2, 5, 4),
}
NAMES = ["twins_pcpvt_small", "twins_svt_small"]


def small(variant, **overrides):
    return randomised(twins(variant, **{"num_classes": CLASSES, "channels": CHANNELS, **SMALL, **overrides})).eval()


def randomised(model):
    """Norms start at one, biases at zero: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def timms(variant):
    from timm.models.twins import Twins

    sizes = {"embed_dims": SMALL["dims"], "sr_ratios": SMALL["ratios"], "mlp_ratios": SMALL["expansions"]}
    sizes |= {
        "depths": SMALL["depths"],
        "num_heads": SMALL["heads"],
        "wss": SMALL["windows"] if "svt" in variant else None,
    }
    return Twins(img_size=(64, 96), patch_size=4, in_chans=CHANNELS, num_classes=CLASSES, **sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", NAMES)
def test_twins_equal_timm_in_outputs_and_gradients(dtype, variant):
    ours, theirs = small(variant).to(dtype), timms(variant).to(dtype)
    layout = layouts(ours)["timm"]
    theirs.load_state_dict(layout.to_theirs(ours), strict=True)
    theirs.eval()
    x = torch.randn(BATCH, CHANNELS, 64, 96, dtype=dtype, requires_grad=True)
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


@pytest.mark.parametrize("variant", NAMES)
def test_maps_equal_those_of_timm(variant):
    ours, theirs = small(variant), timms(variant).eval()
    theirs.load_state_dict(to_timm(ours))
    x = torch.randn(2, CHANNELS, 64, 96)
    maps = ours.features(x)
    assert [tuple(f.shape[2:]) for f in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for a, b in zip(maps, theirs.forward_intermediates(x, intermediates_only=True), strict=True):
        assert close(a, b)


def test_the_smallest_of_each_design_equals_timm_at_full_size():
    import timm

    x = torch.randn(1, 3, 224, 224)
    for variant in NAMES:
        ours, theirs = randomised(twins(variant)).eval(), timm.create_model(variant).eval()
        theirs.load_state_dict(to_timm(ours))
        with torch.no_grad():
            assert close(ours(x), theirs(x))


@pytest.mark.parametrize("variant", NAMES)
def test_a_model_starts_as_the_authors_code_starts_it(variant):
    """The same zeros and ones, and the same size of a typical entry of each matrix.

    Deviations would not do: timm's truncated normal now and then draws a 2, a hundred deviations from its mean.
    """
    import timm

    few = (1, 2, 1, 1)
    theirs = {n: p.detach() for n, p in timm.create_model(variant, depths=few).named_parameters()}
    ours = to_timm(twins(variant, depths=few))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tensor.unique().numel() == 1:
            assert torch.equal(ours[name], tensor), name
        elif tensor.numel() > 2000:
            assert ours[name].abs().median() / tensor.abs().median() == pytest.approx(1, abs=0.1), name
    assert sum(t.unique().numel() == 1 for t in ours.values()) == sum(t.ndim == 1 for t in ours.values())


def test_stochastic_depth_grows_to_the_rates_of_the_paper():
    rates = {v: [b.drop_path.p for s in on_meta(v).stages for b in s.blocks] for v in VARIANTS}
    assert [round(r[-1], 6) for r in rates.values()] == [0.2, 0.3, 0.5] * 2
    assert all(r == sorted(r) and r[0] == 0 for r in rates.values())


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return twins(variant, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timms_and_the_macs(variant):
    import timm

    parameters, gmacs = COUNTS[variant]
    with torch.device("meta"):
        theirs = timm.create_model(variant)
        image = torch.empty(1, 3, 224, 224)
    assert count_parameters(on_meta(variant)) == parameters == count_parameters(theirs)
    assert round(count_macs(on_meta(variant), image) / 1e9, 2) == gmacs


@pytest.mark.parametrize("variant", NAMES)
def test_norms_of_patches_and_reductions_have_another_epsilon_than_those_of_blocks(variant):
    found = {
        (n.rsplit(".", 2)[-2] in ("patches", "reduction"), m.eps)
        for n, m in on_meta(variant).named_modules()
        if isinstance(m, nn.LayerNorm)
    }
    assert found == {(True, 1e-5), (False, 1e-6)}


def test_local_attention_is_its_literal_equations_in_each_window():
    layer = LocallyGroupedAttention(14, heads=7, window=(2, 5)).double()
    x = torch.randn(3, 6, 10, 14, dtype=torch.float64)
    out = layer(x)
    weight, bias = layer.attend.qkv.weight, layer.attend.qkv.bias
    for i in range(3):
        for j in range(2):
            z = x[:, 2 * i : 2 * i + 2, 5 * j : 5 * j + 5].reshape(3, 10, 14)
            q, k, v = (z @ w.T + b for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True))
            heads = [
                attention_weights(*(t[..., 2 * h : 2 * h + 2] for t in (q, k))) @ v[..., 2 * h : 2 * h + 2]
                for h in range(7)
            ]
            literal = torch.cat(heads, -1) @ layer.attend.output.weight.T + layer.attend.output.bias
            assert close(out[:, 2 * i : 2 * i + 2, 5 * j : 5 * j + 5].reshape(3, 10, 14), literal)


def test_one_window_as_large_as_the_map_is_plain_attention():
    layer = LocallyGroupedAttention(14, heads=7, window=(3, 5))
    x = torch.randn(2, 3, 5, 14)
    assert close(layer(x).flatten(1, 2), layer.attend(x.flatten(1, 2)))
    assert close(layer(x), gsa_like(layer)(x))


def gsa_like(local):
    """Global attention with a ratio of one and the maps of a local one."""
    made = gsa(14, heads=7, window=7, ratio=1)
    attend = made.attend
    for part, rows, bias in zip(
        (attend.query, attend.key, attend.value),
        local.attend.qkv.weight.detach().chunk(3),
        local.attend.qkv.bias.detach().chunk(3),
        strict=True,
    ):
        part.weight.data, part.bias.data = rows, bias
    attend.output.load_state_dict(local.attend.output.state_dict())
    return made


def test_a_window_of_one_token_returns_its_value():
    layer = LocallyGroupedAttention(14, heads=7, window=1)
    x = torch.randn(2, 3, 5, 14)
    assert close(layer(x), layer.attend.output(layer.attend.qkv(x)[..., 28:]))


def test_zeros_beyond_the_map_are_keys_with_the_biases_as_their_values():
    layer = randomised(LocallyGroupedAttention(14, heads=7, window=3))
    x = torch.randn(2, 4, 5, 14)
    whole = F.pad(x, (0, 0, 0, 1, 0, 2))
    assert torch.equal(layer(x), layer(whole)[:, :4, :5])
    alone = layer.attend(x[:, 3:, 3:].flatten(1, 2))  # four tokens of the last window, without the zeros
    assert (layer(x)[:, 3:, 3:].flatten(1, 2) - alone).abs().max() > 1e-3


def seen_from(layers, grid, at):
    x = torch.randn(1, *grid, 14, dtype=torch.float64, requires_grad=True)
    y = x
    for layer in layers:
        y = y + layer.double()(y)
    y[0][at].square().sum().backward()
    return x.grad[0].abs().sum(-1) > 0


def test_a_token_sees_its_window_after_local_attention_and_the_map_after_both():
    one, other = (maker(14, heads=7, window=4, ratio=2) for maker in (lsa, gsa))
    window = torch.zeros(8, 12, dtype=torch.bool)
    window[4:, 4:8] = True
    assert torch.equal(seen_from([one], (8, 12), (5, 6)), window)
    assert torch.equal(seen_from([one, one], (8, 12), (5, 6)), window)
    assert seen_from([one, other], (8, 12), (5, 6)).all()


@pytest.mark.parametrize(("maker", "keys"), [(lsa, 49), (gsa, 49)])
def test_the_products_cost_what_the_paper_says(maker, keys):
    """2 k_1 k_2 H W d and 2 H^2 W^2 d / R^2 at the first stage, beside the linear maps."""
    with torch.device("meta"):
        layer, x = maker(64, heads=2, window=7, ratio=8), torch.empty(1, 56, 56, 64)
    products = count_macs(layer, x) - prod(x.shape) * 64 * (4 if maker is lsa else 3) - (maker is gsa) * 49 * 64 * 128
    assert products == 2 * keys * 56 * 56 * 64
    q, k = (
        torch.empty(n, 2, m, 32, device="meta")
        for n, m in (((64, 49), (64, 49)) if maker is lsa else ((1, 3136), (1, 49)))
    )
    assert count_macs(attention, q, k, k) == products


def test_blocks_attend_locally_and_globally_in_turn():
    kinds = {LocallyGroupedAttention: "L", SpatialReductionAttention: "G"}
    for variant in VARIANTS:
        for stage in on_meta(variant).stages:
            turn = "".join(kinds[type(b.attention)] for b in stage.blocks)
            assert turn == ("LG" if "svt" in variant else "GG") * (len(turn) // 2) + "G" * (len(turn) % 2)
    stages = on_meta("twins_svt_small", attentions=((lsa,), (lsa, lsa, gsa), (lsa, lsa, gsa), (gsa,))).stages
    assert ["".join(kinds[type(b.attention)] for b in s.blocks) for s in stages] == ["LL", "LL", "LLGLLGLLGL", "GGGG"]


def test_the_code_of_positions_comes_after_the_first_block_of_each_stage_and_nowhere_else():
    model, order = small("twins_svt_small"), []
    for name, module in model.named_modules():
        if isinstance(module, PositionEncodingGenerator) or name.endswith("mlp"):
            module.register_forward_hook(lambda m, i, o, name=name: order.append(name.removeprefix("stages.")))
    model(torch.randn(1, CHANNELS, 64, 96))
    expected = []
    for i, depth in enumerate(SMALL["depths"]):
        expected += [f"{i}.blocks.0.mlp", f"{i}.blocks.0.positions", *(f"{i}.blocks.{j}.mlp" for j in range(1, depth))]
    assert order == expected
    assert sum(isinstance(m, EncodedBlock) for m in model.modules()) == 4


def moves_along(model, by, image=(96, 160)):
    """Which maps move with an image that is rolled, its border wrapping round."""
    for module in model.modules():
        if isinstance(module, PositionEncodingGenerator):
            module.convolution.padding_mode = "circular"
    x = torch.randn(1, CHANNELS, *image)
    rolled, maps = model.features(x.roll(by, (2, 3))), model.features(x)
    shifts = [tuple(b // stride for b in by) for stride in (4, 8, 16, 32)]
    return [bool(close(a, b.roll(s, (2, 3)))) for a, b, s in zip(rolled, maps, shifts, strict=True)]


def test_borders_are_all_that_ties_the_global_design_to_places():
    model = small("twins_pcpvt_small")
    x = torch.randn(1, CHANNELS, 96, 160)
    rolled, maps = model.features(x.roll((32, 64), (2, 3))), model.features(x)
    assert not any(
        close(a, b.roll((32 // s, 64 // s), (2, 3))) for a, b, s in zip(rolled, maps, (4, 8, 16, 32), strict=True)
    )
    assert moves_along(model, (32, 64)) == [True] * 4


def test_windows_tie_the_local_design_to_places_unless_the_image_moves_by_whole_windows():
    sizes = {"windows": (3, 3, 3, 3)}
    assert moves_along(small("twins_svt_small", **sizes), (32, 64), (96, 192)) == [False] * 4
    assert moves_along(small("twins_svt_small", **sizes), (0, 96), (96, 192)) == [True] * 4


def test_without_positions_the_global_design_is_that_of_pvt_without_its_own():
    """With the tables of PVT at zero and its class token out of sight, only the last pooling is another."""
    ours = small("twins_pcpvt_small", positions=nn.Identity)
    sizes = {name: SMALL[name] for name in ("dims", "depths", "heads", "ratios", "expansions")}
    parent = pvt("pvt_small", channels=CHANNELS, image_size=(64, 96), num_classes=CLASSES, **sizes).eval()
    own = {n: t for n, t in ours.state_dict().items() if n.startswith("stages")}
    tables = {n: torch.zeros_like(t) for n, t in parent.state_dict().items() if n.endswith("positions.table")}
    missing, unexpected = parent.load_state_dict({**own, **tables}, strict=False)
    assert unexpected == []
    assert {n.split(".")[0] for n in missing} == {"pooling", "head"}
    x = torch.randn(2, CHANNELS, 64, 96)
    for a, b in zip(ours.features(x), parent.features(x), strict=True):
        assert close(a, b)


def test_what_is_seen_lies_in_the_window_that_was_asked():
    x = torch.randn(1, CHANNELS, 64, 96)
    seen = see(small("twins_svt_small"), x)
    assert len(seen.layers) == sum(SMALL["depths"])
    gaze = next(iter(seen.layers.values())).map((30, 50))  # row 7 and column 12 of 16 x 24, windows of 3 x 3
    assert gaze.places.shape == (1, 7, 16, 24)
    assert (gaze.places[0, 0] > 0).nonzero().amin(0).tolist() == [6, 12]
    assert (gaze.places[0, 0] > 0).nonzero().amax(0).tolist() == [8, 14]
    assert close(gaze.places.sum((-2, -1)) + gaze.padding, torch.ones(1, 7))
    corner = next(iter(seen.layers.values())).map((63, 1))
    assert (corner.padding > 0).all()
    assert close(seen.rollout().places.sum((-2, -1)) + seen.rollout().padding, torch.ones(1))


def test_a_size_that_patches_do_not_cover_is_refused(unchecked):
    with pytest.raises(ValueError, match=r"25 x 24 does not cut into 2 x 2; Twins needs .* multiples of 32"):
        small("twins_svt_small").resize((200, 192))
    with pytest.raises(ValueError, match=r"multiples of 32"):
        small("twins_svt_small")(torch.randn(1, CHANNELS, 66, 96))
    assert small("twins_svt_small").resize((160, 96))(torch.randn(1, CHANNELS, 160, 96)).shape == (1, CLASSES)


def test_what_is_asked_in_vain_is_refused_by_name():
    with pytest.raises(TypeError, match=r"unknown overrides \['shift'\]; known: .*windows"):
        twins("twins_svt_small", shift=True)
    with pytest.raises(ValueError, match=r"every stage needs one entry of each"):
        twins("twins_svt_small", windows=(7, 7))
    with pytest.raises(ValueError, match=r"did you mean 'twins_svt_small'"):
        twins("twin_svt_small")


def test_positions_are_not_decayed():
    model = small("twins_svt_small")
    kept = {p for g in model.parameter_groups(1e-3) if g["weight_decay"] == 0 for p in g["params"]}
    assert all(p in kept for n, p in model.named_parameters() if "positions" in n or p.ndim == 1)
    assert sum(p.ndim > 1 for p in kept) == 4
