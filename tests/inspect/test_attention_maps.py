"""What every layer looks at, in pixels: held against attention computed by hand, place by place."""

import math
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_notes import inspect as probe
from attention_notes.chapters.plots.attention import attention_over, looking
from attention_notes.inspect.attention_maps import Gaze, Grid, Layer, Seen, see
from attention_notes.papers.dnl import DNL
from attention_notes.papers.non_local import NonLocal
from attention_notes.papers.swin import WindowAttention, swin
from attention_notes.papers.vit import vit
from tests.contract import BATCH, beside, images, randomised, run, tiles
from tests.papers.non_local.cases import non_local
from tests.papers.pvt.cases import PYRAMID
from tests.papers.vit.cases import TINY
from tests.test_contract import MODELS, every_model

# Families whose layers have places, and those of other tokens; what is in neither has no softmax.
OVER_IMAGES = [n for n, case in MODELS.items() if [x.ndim for x in case.inputs()] == [4] and not case.no_softmax]
over_images = pytest.mark.parametrize("name", OVER_IMAGES)

Model = tuple[nn.Module, Tensor, Seen, dict[str, Tensor]]


def seen_with_inputs(model: nn.Module, x: Tensor) -> Model:
    """The model, its images, what ``see`` saw, and what every module was given, by the module's name."""
    given: dict[str, Tensor] = {}

    def keep(_: nn.Module, args: tuple[Tensor, ...], *, name: str) -> None:
        given[name] = args[0] if args else torch.empty(0)

    handles = [m.register_forward_pre_hook(partial(keep, name=name)) for name, m in model.named_modules()]
    seen = see(model, x)
    for handle in handles:
        handle.remove()
    return model, x, seen, given


def case(name: str) -> Model:
    return seen_with_inputs(randomised(MODELS[name]), MODELS[name].inputs()[0])


def split(x: Tensor, heads: int) -> Tensor:
    """b n (h d) -> b h n d"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def softmax_of(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


def assert_same(gaze: Gaze, places: Tensor, extra: Tensor | None = None, padding: Tensor | None = None) -> None:
    torch.testing.assert_close(gaze.places, places, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gaze.extra, places.new_zeros(*places.shape[:-2], 0) if extra is None else extra)
    torch.testing.assert_close(gaze.padding, places.new_zeros(places.shape[:-2]) if padding is None else padding)


@pytest.mark.parametrize(
    ("name", "prefix", "extra"), [("vit", "", 1), ("vit pooled", "", 0), ("deit distilled", "encoder.", 2)]
)
def test_a_patch_and_the_extra_tokens_look_where_the_literal_softmax_says(name, prefix, extra):
    model, _, seen, given = case(name)
    assert list(seen.layers) == [f"{prefix}blocks.{i}.attention" for i in range(2)]
    for layer in seen.layers.values():
        module = model.get_submodule(layer.name)
        q, k, _ = (split(part, 3) for part in module.qkv(given[layer.name]).chunk(3, -1))
        literal = softmax_of(q, k)  # tokens of 4 x 3 patches of 7 x 14 pixels
        assert layer.extra == extra
        for y, x in ((0, 0), (6, 13), (7, 14), (15, 30), (27, 41)):
            row = literal[:, :, extra + y // 7 * 3 + x // 14]
            assert_same(layer.map((y, x)), row[..., extra:].unflatten(-1, (4, 3)), row[..., :extra])
        for token, at in zip(range(extra), ("class", "distillation"), strict=False):
            row = literal[:, :, token]
            assert_same(layer.map(at), row[..., extra:].unflatten(-1, (4, 3)), row[..., :extra])


def swin_by_force(module: nn.Module, x: Tensor, window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Attention of every place of the padded map to every other, one large matrix in the map's own coordinates.

    A window that was not shifted begins at a multiple of its side; one that was, ``shift`` later, and what lies before
    the first is a window of its own. No roll, no cut, no table of indices.
    """
    (_, gy, gx, _), (wy, wx) = x.shape, window
    rows, columns = math.ceil(gy / wy) * wy, math.ceil(gx / wx) * wx
    tokens = F.pad(x, (0, 0, 0, columns - gx, 0, rows - gy)).flatten(1, 2)
    places = [(y, x) for y in range(rows) for x in range(columns)]
    owner = [((y - shift[0]) // wy, (x - shift[1]) // wx) for y, x in places]
    bias = torch.full((module.heads, len(places), len(places)), -math.inf)
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            if owner[i] == owner[j]:
                bias[:, i, j] = offset_bias(module, y - v, x - u, window)
    if isinstance(module, WindowAttention):
        q, k, _ = (split(part, module.heads) for part in module.qkv(tokens).chunk(3, -1))
        return (q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1)
    q, k, _ = (split(part, module.heads) for part in F.linear(tokens, module.qkv.weight).chunk(3, -1))
    q = q + split(module.query_bias[None, None], module.heads)
    cosines = F.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1)
    return (cosines * module.logit_scale.clamp(max=math.log(100)).exp() + bias).softmax(-1)


def offset_bias(module: nn.Module, down: int, right: int, window: tuple[int, int]) -> Tensor:
    if isinstance(module, WindowAttention):
        return module.bias.table[:, down + window[0] - 1, right + window[1] - 1]
    offset = torch.tensor([down / max(window[0] - 1, 1), right / max(window[1] - 1, 1)]) * 8
    return 16 * module.bias.network(offset.sign() * (1 + offset.abs()).log2() / 3).sigmoid()


# 14 x 6 patches of 2 x 7 pixels in windows of 5 x 5, padded to 15 x 10; then 7 x 3 in windows of 5 x 3, to 10 x 3:
# the grid, the pixels of a cell, the window, the shift, and the padded grid
SWIN_LAYERS = {
    "stages.0.blocks.0.attention": ((14, 6), (2, 7), (5, 5), (0, 0), (15, 10)),
    "stages.0.blocks.1.attention": ((14, 6), (2, 7), (5, 5), (2, 2), (15, 10)),
    "stages.1.blocks.0.attention": ((7, 3), (4, 14), (5, 3), (0, 0), (10, 3)),
    "stages.1.blocks.1.attention": ((7, 3), (4, 14), (5, 3), (2, 0), (10, 3)),
}


@torch.no_grad()
@pytest.mark.parametrize("name", ["swin", "swin v2"])
def test_windows_are_put_back_where_brute_force_over_the_padded_map_has_them(name):
    model, _, seen, given = case(name)
    assert list(seen.layers) == list(SWIN_LAYERS)
    for layer in seen.layers.values():
        grid, pixels, window, shift, padded = SWIN_LAYERS[layer.name]
        literal = swin_by_force(model.get_submodule(layer.name), given[layer.name], window, shift)
        for y, x in ((0, 0), (3, 6), (4, 20), (13, 21), (20, 7), (27, 41), (27, 0)):
            row = literal[:, :, y // pixels[0] * padded[1] + x // pixels[1]].unflatten(-1, padded)
            places = row[..., : grid[0], : grid[1]]
            gaze = layer.map((y, x))
            assert_same(gaze, places, padding=row.sum((-2, -1)) - places.sum((-2, -1)))
            assert torch.equal(gaze.places == 0, places == 0)


PVT_STRIDES = (4, 8, 16, 32)


@torch.no_grad()
@pytest.mark.parametrize("name", ["pvt", "pvt v2", "pvt v2 linear"])
def test_reduced_keys_stand_on_a_grid_of_their_own(name):
    model, _, seen, given = case(name)
    for i, (layer, stride) in enumerate(zip(seen.layers.values(), PVT_STRIDES, strict=True)):
        module, x = model.stages[i].blocks[0].attention, given[f"stages.{i}.blocks.0.attention"]
        extra = int(name == "pvt" and i == 3)  # a row: the class token, then 1 x 3
        columns = (x.shape[2] - extra) if extra else x.shape[2]
        q, k = split(module.attend.query(x.flatten(1, 2)), 3), split(module.attend.key(module.reduction(x)), 3)
        literal = softmax_of(q, k)
        ratio = PYRAMID["ratios"][i]
        keys = (7, 7) if name == "pvt v2 linear" else (x.shape[1] // ratio, columns // ratio)
        assert layer.extra == extra
        for row in range(x.shape[1]):
            for column in range(columns):
                at = (row * stride, column * stride)
                shares = literal[:, :, extra + row * columns + column]
                assert_same(layer.map(at), shares[..., extra:].unflatten(-1, keys), shares[..., :extra])
        if extra:
            shares = literal[:, :, 0]
            assert_same(layer.map("class"), shares[..., 1:].unflatten(-1, keys), shares[..., :1])


@torch.no_grad()
@pytest.mark.parametrize("name", ["non_local", "non_local gaussian"])
def test_a_non_local_block_looks_at_pooled_positions(name):
    model, _, seen, given = case(name)
    for layer, stride in zip(seen.layers.values(), (8, 8, 16), strict=True):
        block = layer.name.removesuffix(".pairwise")
        module, x = model.get_submodule(block), given[block]
        pooled = F.max_pool2d(x, 2)
        literal = (module.theta(x).flatten(2).mT @ module.phi(pooled).flatten(2)).softmax(-1)
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                shares = literal[:, None, row * x.shape[3] + column].unflatten(-1, pooled.shape[2:])
                assert_same(layer.map((row * stride, column * stride)), shares)


@torch.no_grad()
def test_both_softmaxes_of_a_disentangled_block_are_seen_and_the_unary_is_the_same_for_all():
    model, _, seen, given = case("dnl")
    tokens, terms = given["block"].flatten(2).mT, model.block.attention
    q, k = terms.pairwise.query(tokens), terms.pairwise.key(tokens)
    pairwise = ((q - q.mean(1, keepdim=True)) @ (k - k.mean(1, keepdim=True)).mT).softmax(-1)
    unary = terms.unary.saliency(tokens).mT.softmax(-1)
    both = seen.layers["block.attention.pairwise"], seen.layers["block.attention.unary"]
    for row in range(4):
        for column in range(6):
            at = (8 * row, 8 * column)
            assert_same(both[0].map(at), pairwise[:, None, row * 6 + column].unflatten(-1, (4, 6)))
            assert_same(both[1].map(at), unary.unflatten(-1, (4, 6)))


def itself(layer: Layer) -> Layer:
    """The layer, had everybody looked at nobody else."""
    s, h, _, m = layer.weights.shape
    return replace(layer, weights=torch.eye(m).expand(s, h, m, m))


@pytest.mark.parametrize(
    "name", [n for n in OVER_IMAGES if n not in ("non_local", "non_local gaussian", "pvt v2 linear")]
)
def test_who_looks_at_itself_only_is_found_at_its_own_cell(name):
    _, x, seen, _ = case(name)
    looking_at_itself = [itself(layer) for layer in seen.layers.values() if layer.placed.keys is layer.placed.grid]
    assert looking_at_itself
    for layer in looking_at_itself:
        for y in range(x.shape[2]):
            for column in range(x.shape[3] - 1, -1, -5):
                gaze = layer.map((y, column))
                assert (gaze.over_image()[:, :, y, column] == 1).all(), (layer.name, y, column)
                assert (gaze.places.sum((-2, -1)) == 1).all()


@pytest.mark.parametrize("name", ["swin", "swin v2"])
def test_where_a_window_hides_a_place_no_gradient_comes_from_it_and_elsewhere_it_does(name):
    model, _, seen, given = case(name)
    for layer in seen.layers.values():
        grid, pixels, *_ = SWIN_LAYERS[layer.name]
        for row, column in ((0, 0), (grid[0] - 1, grid[1] - 1), (4, 2), (2, 0)):
            x = given[layer.name].clone().requires_grad_()
            model.get_submodule(layer.name)(x)[:, row, column].square().sum().backward()
            seen_from = layer.map((row * pixels[0], column * pixels[1])).places.amax(1)
            assert torch.equal(x.grad.abs().sum(-1) > 0, seen_from > 0), (layer.name, row, column)


@pytest.mark.parametrize("name", ["vit", "vit pooled", "deit distilled"])
def test_the_rollout_of_a_plain_vit_is_a_row_of_the_matrix(name):
    _, _, seen, _ = case(name)
    matrix = probe.rollout({layer.name: layer.weights for layer in seen.layers.values()})
    extra = matrix.shape[1] - 12

    def assert_is(gaze: Gaze, row: Tensor) -> None:
        torch.testing.assert_close(gaze.places, row[:, extra:].unflatten(1, (4, 3)), atol=1e-6, rtol=0)
        torch.testing.assert_close(gaze.extra, row[:, :extra], atol=1e-6, rtol=0)

    assert_is(seen.rollout(), matrix[:, :extra].mean(1) if extra else matrix.mean(1))
    assert_is(seen.rollout((13, 29)), matrix[:, extra + 1 * 3 + 2])
    if extra:
        assert_is(seen.rollout("class"), matrix[:, 0])


def dense(parents: list[list[int]], below: int) -> Tensor:
    """The matrix that hands a share in equal parts to the given parents."""
    matrix = torch.zeros(len(parents), below)
    for i, row in enumerate(parents):
        matrix[i, row] = 1 / len(row)
    return matrix


def block(row: int, column: int, side: int, grid: tuple[int, int]) -> list[int]:
    """The cells of a finer grid, row by row, under a cell that covers ``side`` of them, less what is outside."""
    rows = [r for r in range(row * side, (row + 1) * side) if r < grid[0]]
    return [r * grid[1] + c for r in rows for c in range(column * side, (column + 1) * side) if c < grid[1]]


@torch.no_grad()
@pytest.mark.parametrize("name", ["swin", "swin v2"])
def test_the_rollout_of_windows_is_that_of_large_matrices(name):
    model, _, seen, given = case(name)
    r, lost = torch.full((BATCH, 1, 21), 1 / 21), torch.zeros(BATCH)
    for layer in reversed(list(SWIN_LAYERS)):
        grid, _, window, shift, padded = SWIN_LAYERS[layer]
        literal = swin_by_force(model.get_submodule(layer), given[layer], window, shift).mean(1)
        inside = [y * padded[1] + x for y in range(grid[0]) for x in range(grid[1])]
        if r.shape[-1] != len(inside):
            r = r @ dense([block(y, x, 2, (14, 6)) for y in range(7) for x in range(3)], 14 * 6)
        kept = literal[:, inside][:, :, inside]
        lost += (r.sum((1, 2)) - (r @ kept).sum((1, 2))) / 2
        r = (r @ kept + r) / 2
    gaze = seen.rollout()
    torch.testing.assert_close(gaze.places, r[:, 0].unflatten(1, (14, 6)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gaze.padding, lost)
    assert (gaze.padding > 0.01).all()


@torch.no_grad()
def test_the_rollout_of_a_pyramid_goes_through_reduced_keys_and_leaves_the_class_token_where_it_joined():
    _, _, seen, _ = case("pvt")
    layers = [layer.weights.mean(1) for layer in seen.layers.values()]
    grids, ratios = ((8, 24), (4, 12), (2, 6), (1, 3)), PYRAMID["ratios"]
    r = (torch.eye(4)[:1] @ layers[3] + torch.eye(4)[:1]) / 2
    kept, r = r[:, 0, 0], r[:, :, 1:]
    for i in (2, 1, 0):
        grid, ratio = grids[i], ratios[i]
        merged = [block(y, x, 2, grid) for y in range(grids[i + 1][0]) for x in range(grids[i + 1][1])]
        reduced = [block(y, x, ratio, grid) for y in range(grid[0] // ratio) for x in range(grid[1] // ratio)]
        r = r @ dense(merged, math.prod(grid))
        r = (r @ layers[i] @ dense(reduced, math.prod(grid)) + r) / 2
    gaze = seen.rollout("class")
    torch.testing.assert_close(gaze.places, r[:, 0].unflatten(1, grids[0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gaze.extra[:, 0], kept)


def test_softmaxes_side_by_side_are_one_step_of_the_rollout():
    _, _, seen, _ = case("dnl")
    pairwise, unary = (layer.weights[:, 0] for layer in seen.layers.values())
    r = torch.full((1, 24), 1 / 24)
    expected = (r + (r @ pairwise + unary) / 2) / 2
    torch.testing.assert_close(seen.rollout().places.flatten(1), expected[:, 0], atol=1e-6, rtol=1e-5)


def test_pooled_keys_hand_back_what_the_pooling_would_give():
    """The transpose of adaptive pooling, windows of unequal sizes that overlap: its gradient."""
    _, _, seen, _ = case("pvt v2 linear")
    for layer in seen.layers.values():
        places, shares = layer.placed, torch.rand(2, 7, 7)
        x = torch.zeros(2, 1, *places.grid.size, requires_grad=True)
        (F.adaptive_avg_pool2d(x, 7)[:, 0] * shares).sum().backward()
        torch.testing.assert_close(places.keys.back(shares), x.grad[:, 0])


def test_overlapping_windows_hand_an_even_map_back_evenly_but_at_the_border():
    _, _, seen, _ = case("pvt v2")
    first, second = (layer.placed.grid for layer in list(seen.layers.values())[:2])
    assert second.below is first
    given = second.back(torch.ones(1, *second.size))[0]
    assert torch.equal(given[2:-2, 2:-2], torch.full_like(given[2:-2, 2:-2], 0.25))
    assert given.sum() == pytest.approx(math.prod(second.size))


@over_images
def test_nothing_is_lost_in_a_layer_or_on_the_way_back(name):
    _, x, seen, _ = case(name)
    sides = x.shape[2] - 1, x.shape[3] - 1
    gazes = [layer.map(at) for layer in seen.layers.values() for at in ((0, 0), (sides[0] // 2, sides[1] // 3), sides)]
    gazes += [seen.rollout(at) for at in (None, (0, 0), sides)]
    for gaze in gazes:
        total = gaze.places.sum((-2, -1)) + gaze.extra.sum(-1) + gaze.padding
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
        assert (gaze.places >= 0).all()
        assert gaze.over_image("bilinear").shape[-2:] == gaze.over_image().shape[-2:] == x.shape[2:]


@every_model
@torch.no_grad()  # where a bias could get a gradient, another kernel runs
def test_every_model_is_seen_or_says_why_not(case):
    model, inputs = randomised(case), case.inputs()
    before = run(model, inputs)
    if case.no_softmax:
        with pytest.raises(RuntimeError, match="no softmax attention ran"):
            see(model, *inputs)
        return
    seen = see(model, *inputs)
    with probe.record_attention(model) as maps:
        after = run(model, inputs)
    assert torch.equal(seen.output if isinstance(seen.output, Tensor) else beside(seen.output), before)
    assert torch.equal(after, before)
    assert seen.layers.keys() == maps.keys()
    for name, layer in seen.layers.items():
        assert torch.equal(layer.weights, maps[name])
    if case.inputs not in (images, tiles):
        for layer in seen.layers.values():
            with pytest.raises(ValueError, match=r"has no map over an image.*in \.weights"):
                layer.map((0, 0))
        with pytest.raises(ValueError, match="has no map over an image"):
            seen.rollout()


def test_the_model_is_left_as_it_was_part_by_part_even_when_it_fails(unchecked):
    model = vit("Ti/16", dropout=0.1, **TINY).train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    (x,) = images()
    output = see(model, x).output
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        assert torch.equal(model.eval()(x), output)
    model.train().blocks[0].eval()
    with pytest.raises(ValueError, match="model was built for 28 x 42"):
        see(model, torch.randn(1, 3, 27, 42))
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_compiled_model_is_seen_as_the_one_that_it_was_made_from(unchecked):
    model, (x,) = randomised(MODELS["swin"]), images()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    seen, plain = see(compiled, x), see(model, x)
    assert torch.equal(seen.output, plain.output)
    for name, layer in plain.layers.items():
        assert torch.equal(seen.layers[f"_orig_mod.{name}"].map((5, 9)).places, layer.map((5, 9)).places)


class Squeezed(nn.Module):
    """A model that changes its images before it looks at them, in a way that nobody can follow."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(F.interpolate(x, (28, 42)))


@pytest.mark.parametrize("name", ["vit", "swin", "pvt v2", "non_local", "dnl"])
def test_a_map_that_was_lost_sight_of_is_no_map_rather_than_a_wrong_one(name):
    seen = see(Squeezed(randomised(MODELS[name])), torch.randn(2, 3, 30, 44))
    with pytest.raises(ValueError, match="has no map"):
        next(iter(seen.layers.values())).map((0, 0))


class Turned(nn.Sequential):
    """The map on its side: as many positions, and none where it was."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT)


@pytest.mark.parametrize("block", [NonLocal, DNL])
def test_a_map_of_as_many_positions_in_another_shape_is_not_taken_for_the_image(block):
    layer, *_ = see(Turned(block(6)), torch.randn(2, 6, 5, 7)).layers.values()
    with pytest.raises(ValueError, match="has no map"):
        layer.map((0, 0))


def test_a_dilated_convolution_keeps_its_cells_in_the_middle_of_its_windows():
    grid = Grid((13, 17)).through(nn.Conv2d(1, 1, 3, stride=2, padding=2, dilation=2))
    assert (grid.size, grid.centre, grid.stride) == ((7, 9), (0, 0), (2, 2))


class Halved(nn.Module):
    """Attention of all positions to half of them: geometry that only it knows."""

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t[:, None] for t in (x, x[:, ::2], v[:, ::2]))
        return F.scaled_dot_product_attention(q, k, v)[:, 0]


def test_weights_that_do_not_fit_the_places_get_none():
    seen = see(nn.Sequential(DNL(6, attention=lambda _: Halved())), torch.randn(2, 6, 5, 7))
    (layer,) = seen.layers.values()
    assert layer.weights.shape == (2, 1, 35, 18)
    with pytest.raises(ValueError, match="has no map"):
        layer.map((0, 0))


def test_no_such_place_is_named_with_the_places_that_there_are(unchecked):
    _, _, seen, _ = case("deit")
    layer = seen.layers["blocks.0.attention"]
    for at in ((28, 0), (0, 42), (-1, 0)):
        with pytest.raises(ValueError, match=rf"\({at[0]}, {at[1]}\) is no pixel of an image of 28 x 42"):
            layer.map(at)
    with pytest.raises(ValueError, match=r"no token 'distillation' here: known are \('class',\)"):
        layer.map("distillation")
    with pytest.raises(ValueError, match="no token 'class' here"):
        case("swin")[2].rollout("class")


def test_a_share_stands_at_the_pixels_of_its_own_cell():
    _, _, seen, _ = case("vit")
    gaze = seen.layers["blocks.1.attention"].map((20, 20))
    expected = gaze.places.repeat_interleave(7, -2).repeat_interleave(14, -1)
    assert torch.equal(gaze.over_image(), expected)
    smooth, cells = gaze.over_image("bilinear"), gaze.places
    assert torch.equal(smooth[..., 3::7, 0], cells[..., 0])  # in the middle of each row, left of the first middle
    torch.testing.assert_close(smooth[..., 3, 13], cells[..., 0, 0] * 7.5 / 14 + cells[..., 0, 1] * 6.5 / 14)
    torch.testing.assert_close(smooth[..., 9, 0], cells[..., 0, 0] / 7 + cells[..., 1, 0] * 6 / 7)


def test_a_merged_map_of_odd_size_ends_beyond_the_image():
    """7 x 5 patches of 2 x 2 pixels make 4 x 3 cells of 4 x 4, the last of which are cut off, not squeezed in."""
    model = swin("swin_t", dim=6, depths=(1, 1), heads=(1, 1), patch=2, window=3, image_size=(14, 10), num_classes=None)
    seen = see(model, torch.randn(1, 3, 14, 10))
    layer = seen.layers["stages.1.blocks.0.attention"]
    gaze = layer.map((13, 9))
    expected = gaze.places.repeat_interleave(4, -2).repeat_interleave(4, -1)[..., :14, :10]
    assert torch.equal(gaze.over_image(), expected)


def test_a_network_that_reads_large_windows_keeps_its_cells_in_the_middle_of_them():
    net = non_local(2)
    x = torch.zeros(1, 3, 64, 96)
    layer = see(net, x).layers["stages.2.1.pairwise"]
    assert layer.placed.grid.size == (4, 6)
    assert layer.placed.grid.centre == (0, 0)
    assert layer.placed.keys.centre == (8, 8)  # two cells at 0 and 16 pooled
    assert layer.placed.grid.cell(23, 8) == (1, 1)


def test_the_picture_shows_the_image_some_layers_and_the_rollout():
    mpl.use("Agg")
    picture = torch.rand(3, 28, 42)
    for name, at in (("vit", None), ("vit", (3, 40)), ("swin", (3, 40)), ("non_local", None)):
        first = attention_over(randomised(MODELS[name]), picture, at=at)
        titles = [ax.get_title() for ax in first.figure.axes]
        assert titles[0] == "the image"
        assert titles[-1] == "rollout"
        assert titles[1].startswith("layer 1 of ")
        plt.close("all")
    with pytest.raises(ValueError, match=r"no layers \[7\]: the model has 2"):
        attention_over(randomised(MODELS["vit"]), picture, layers=(0, 7))


def test_the_picture_puts_the_shares_and_the_ring_where_they_belong():
    from PIL import Image

    mpl.use("Agg")
    shares = torch.zeros(28, 42)
    shares[20:25, 30:33] = 0.5
    for image in (torch.rand(3, 28, 42), Image.new("RGB", (42, 28), (200, 10, 10))):
        ax = looking(image, shares, at=(5, 11), title="one")
        grey, heat = ax.get_images()
        assert grey.get_array().shape == heat.get_array().shape == (28, 42)
        assert torch.equal(torch.tensor(heat.get_array() > 0), shares > 0)
        assert torch.equal(torch.tensor(heat.get_alpha() > 0), shares > 0)
        assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines()} == {(11, 5)}
        plt.close("all")
    model = randomised(MODELS["vit"])
    attention_over(model, Image.new("RGB", (50, 50)), prepare=lambda i: torch.zeros(3, 28, 42) + i.width / 50)
    plt.close("all")
