"""Non-local blocks against equations 1 to 6 written as loops, against mmcv and timm, and against the paper's counts."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.chapters.data import digits
from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters, record_attention
from attention_notes.papers.non_local import (
    C2D,
    VARIANTS,
    Concatenation,
    DotProduct,
    EmbeddedGaussian,
    Gaussian,
    NonLocal,
    embed_then_pool,
    insert,
    non_local_resnet,
    pool_then_embed,
    rectified_sums,
)
from attention_notes.papers.non_local.data import memory_games, panning
from attention_notes.papers.resnet import ResNet, basic, resnet

# every dimension another prime, but for the axes that are pooled
BATCH, CHANNELS, INNER = 3, 11, 7
MAPS = {1: (13,), 2: (5, 3), 3: (2, 5, 3)}
PAIRWISE = {"gaussian": Gaussian, "embedded_gaussian": EmbeddedGaussian, "dot_product": DotProduct}
PAIRWISE |= {"concatenation": Concatenation}
EVERY = pytest.mark.parametrize("pairwise", PAIRWISE.values(), ids=PAIRWISE.keys())
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
DIMS = pytest.mark.parametrize("dims", MAPS)
ORDERS = pytest.mark.parametrize("subsampling", [pool_then_embed, embed_then_pool])


def randomised(model):
    """What starts at zero or one would hide a fault."""
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=0.6 if "norm" in name else 0.1, std=0.4)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model


def block(pairwise=EmbeddedGaussian, *, dims=2, dtype=torch.float64, **options):
    model = NonLocal(CHANNELS, dims=dims, **{"inner": INNER, "pairwise": pairwise, **options})
    return randomised(model).to(dtype).eval()


def features(dims=2, dtype=torch.float64, size=None):
    return torch.randn(BATCH, CHANNELS, *(size or MAPS[dims]), dtype=dtype)


def gradients(output, *inputs):
    return torch.autograd.grad((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum(), inputs)


def affine(part, vector):
    return vector if isinstance(part, nn.Identity) else part.weight.flatten(1) @ vector + part.bias


def pooled(x, side):
    """The maximum of each square of positions, in space only, a value at a time."""
    *lead, y, width = x.shape
    flat = x.reshape(math.prod(lead), y, width)
    cells = [
        [flat[:, r : r + side, c : c + side].amax((1, 2)) for c in range(0, width - side + 1, side)]
        for r in range(0, y - side + 1, side)
    ]
    return torch.stack([torch.stack(row, -1) for row in cells], -2).reshape(*lead, y // side, width // side)


def by_loops(model, x, f, *, softmax, side=1):
    """Equations 1 and 6 for one sample, position by position: ``f`` gives the score of two embedded positions."""
    source = pooled(x, side) if side > 1 else x
    asking = [affine(model.theta, p) for p in x.flatten(1).T]
    answering = [affine(model.phi, p) for p in source.flatten(1).T]
    values = [affine(model.g, p) for p in source.flatten(1).T]
    rows = []
    for t in asking:
        scores = [f(t, p).exp() if softmax else f(t, p) for p in answering]
        total = sum(scores) if softmax else len(scores)
        y = sum(s * v for s, v in zip(scores, values, strict=True)) / total
        rows.append(model.output.weight.flatten(1) @ y)
    z = torch.stack(rows, -1).view_as(x)
    return model.norm(z[None])[0] + x


SCORES = {
    Gaussian: lambda model: torch.dot,
    EmbeddedGaussian: lambda model: torch.dot,
    DotProduct: lambda model: torch.dot,
    Concatenation: lambda model: lambda t, p: (model.pairwise.weight.flatten() * torch.cat([t, p])).sum().clamp(min=0),
}


@EVERY
@DIMS
def test_the_block_is_equations_1_to_6_position_by_position(pairwise, dims):
    model, x = block(pairwise, dims=dims), features(dims) * 0.5
    softmax = pairwise in (Gaussian, EmbeddedGaussian)
    literal = torch.stack([by_loops(model, sample, SCORES[pairwise](model), softmax=softmax) for sample in x])
    assert close(model(x), literal)


@EVERY
@pytest.mark.parametrize("dims", [2, 3])
def test_subsampling_takes_the_maximum_over_space_before_phi_and_g(pairwise, dims):
    model, x = block(pairwise, dims=dims, subsample=2), features(dims) * 0.5
    softmax = pairwise in (Gaussian, EmbeddedGaussian)
    literal = [by_loops(model, sample, SCORES[pairwise](model), softmax=softmax, side=2) for sample in x]
    assert close(model(x), torch.stack(literal))
    assert model.weights(x).shape == (BATCH, math.prod(MAPS[dims]), 2 * (2 if dims == 3 else 1))


@EVERY
@DTYPES
@ORDERS
@pytest.mark.parametrize("side", [1, 2])
def test_the_path_that_holds_no_map_equals_the_literal_map_times_g(pairwise, dtype, subsampling, side):
    model = block(pairwise, dtype=dtype, subsample=side, subsampling=subsampling)
    x = features(dtype=dtype).requires_grad_()
    theta, phi, g = model.embed(x)
    literal = model.norm(model.output((model.pairwise.weights(theta, phi) @ g).mT.unflatten(2, x.shape[2:]))) + x
    fast = model(x)
    assert close(fast, literal)
    wanted = [x, *model.parameters()]
    for ours, theirs in zip(gradients(fast, *wanted), gradients(literal, *wanted), strict=True):
        assert close(ours, theirs)


@DTYPES
@pytest.mark.parametrize("sizes", [(5, 3, 2), (2, 7, 11), (1, 1, 1), (3, 257, 5)])
def test_sums_of_rectified_pairs_are_exact_with_their_gradients(dtype, sizes):
    n, m, dv = sizes
    a, b = torch.randn(2, n, dtype=dtype, requires_grad=True), torch.randn(2, m, dtype=dtype, requires_grad=True)
    g = (torch.randn(2, m, dv, dtype=dtype) / m).requires_grad_()
    fast, literal = rectified_sums(a, b, g), (a[:, :, None] + b[:, None]).relu() @ g
    assert close(fast, literal)
    for ours, theirs in zip(gradients(fast, a, b, g), gradients(literal, a, b, g), strict=True):
        assert close(ours, theirs)


def test_sums_of_rectified_pairs_by_hand():
    a, b = torch.tensor([[0.0, -2.0, -5.0, 10.0]]), torch.tensor([[1.0, -3.0, 4.0]])
    g = torch.tensor([[[1.0], [10.0], [100.0]]])
    assert rectified_sums(a, b, g).flatten().tolist() == [401.0, 200.0, 0.0, 11 + 70 + 1400]


def test_a_pair_that_sums_to_zero_is_silent_and_ties_are_all_heard():
    a, b, g = torch.tensor([[-1.0, 1.0]]), torch.tensor([[1.0, 1.0, -1.0]]), torch.ones(1, 3, 1)
    b.requires_grad_()
    out = rectified_sums(a, b, g)
    assert out.flatten().tolist() == [0.0, 4.0]
    (gradient,) = torch.autograd.grad(out[0, 0, 0], b)
    assert not gradient.any()


def test_a_long_sum_keeps_counting_in_half_precision():
    ones = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert rectified_sums(ones[:, :1], ones, ones[..., None]).item() == 2 * 4096


def largest(function):
    """The largest tensor, in elements, that any operation of ``function`` makes, forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(t))
            return out

    with Watch():
        function()
    return max(sizes)


@EVERY
def test_no_pairwise_function_ever_holds_a_map_of_all_pairs(pairwise):
    model, n = block(pairwise, dtype=torch.float32), 31 * 29
    x = features(size=(31, 29), dtype=torch.float32).requires_grad_()
    linear = BATCH * n * 4 * CHANNELS
    assert largest(lambda: model(x).sum().backward()) <= linear < BATCH * n * n
    assert largest(lambda: model.weights(x)) == BATCH * n * n


@pytest.mark.parametrize("mode", PAIRWISE)
@pytest.mark.parametrize("side", [1, 2])
@DIMS
@DTYPES
def test_parity_with_mmcv(mode, side, dims, dtype):
    from mmcv.cnn.bricks import non_local as bricks

    build = {1: bricks.NonLocal1d, 2: bricks.NonLocal2d, 3: bricks.NonLocal3d}[dims]
    # a Gaussian block of mmcv has its full width inside g, too
    theirs = build(2 * INNER, sub_sample=side == 2, use_scale=False, norm_cfg={"type": f"BN{dims}d"}, mode=mode)
    theirs = randomised(theirs).to(dtype).eval()
    ours = NonLocal(
        2 * INNER, dims=dims, pairwise=PAIRWISE[mode], subsample=side, subsampling=embed_then_pool, batch_norm=True
    )
    ours.to(dtype).eval().load_state_dict(_from_mmcv(theirs.state_dict()))
    size = {1: (14,), 2: (10, 6), 3: (3, 10, 6)}[dims]
    x = (torch.randn(BATCH, 2 * INNER, *size, dtype=dtype) * 0.5).requires_grad_()
    assert close(ours(x), theirs(x))
    if mode != "concatenation":  # theirs cannot be trained: it divides the rectifier's output in place
        assert close(gradients(ours(x), x)[0], gradients(theirs(x), x)[0])


def _from_mmcv(state):
    named = {}
    for name, tensor in state.items():
        part, rest = name.split(".", 1)
        rest = rest.removeprefix("0.").removeprefix("conv.").removeprefix("bn.")
        if part == "concat_project":
            named["pairwise.weight"] = tensor.view(2, -1)
        elif part == "conv_out":
            named[f"{'norm' if '.bn.' in name else 'output'}.{rest}"] = tensor
        else:
            named[f"{part}.{rest}"] = tensor
    return named


@DTYPES
def test_parity_with_timm_whose_scores_are_scaled_by_the_root_of_the_outer_width(dtype):
    from timm.layers.non_local_attn import NonLocalAttn

    theirs = randomised(NonLocalAttn(2 * CHANNELS, rd_channels=INNER)).to(dtype).eval()
    nn.init.zeros_(theirs.z.bias)
    pairwise = partial(EmbeddedGaussian, scale=(2 * CHANNELS) ** -0.5)
    ours = NonLocal(2 * CHANNELS, inner=INNER, pairwise=pairwise).to(dtype).eval()
    names = {"t": "theta", "p": "phi", "g": "g", "z": "output", "norm": "norm"}
    state = {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in theirs.state_dict().items() if k != "z.bias"}
    ours.load_state_dict(state)
    x = torch.randn(BATCH, 2 * CHANNELS, 5, 3, dtype=dtype, requires_grad=True)
    assert close(ours(x), theirs(x))
    assert close(gradients(ours(x), x)[0], gradients(theirs(x), x)[0])
    for name, p in theirs.named_parameters():
        if name != "z.bias":
            part, rest = name.split(".")
            mine = dict(ours.named_parameters())[f"{names[part]}.{rest}"]
            found, expected = gradients(ours(x), mine)[0], gradients(theirs(x), p)[0]
            if name == "p.bias":  # the softmax cannot see it: what is left of its gradient is rounding
                size = gradients(theirs(x), theirs.p.weight)[0].abs().max()
                found, expected = found / size, expected / size
            assert close(found, expected)


def test_two_positions_by_hand():
    model = NonLocal(1, dims=1, inner=1, batch_norm=False).double()
    for part, weight in {"theta": 1.0, "phi": math.log(3), "g": 2.0, "output": 5.0}.items():
        nn.init.constant_(getattr(model, part).weight, weight)
        nn.init.zeros_(getattr(model, part).bias)
    x = torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)
    # scores theta_i phi_j = ln 3 * i * j: rows 3 : 9 and 9 : 81
    first, second = (3 * 2 + 9 * 4) / 12, (9 * 2 + 81 * 4) / 90
    assert close(model(x), torch.tensor([[[5 * first + 1, 5 * second + 2]]], dtype=torch.float64))


def test_with_one_position_the_gaussians_are_a_linear_map_whatever_theta_and_phi():
    x = features(size=(1, 1))
    for pairwise in (Gaussian, EmbeddedGaussian):
        model = block(pairwise)
        assert close(model(x), model.norm(model.output(model.g(x))) + x)


@EVERY
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_new_block_is_the_identity(pairwise, batch_norm, training):
    model = NonLocal(CHANNELS, pairwise=pairwise, batch_norm=batch_norm).double().train(training)
    x = features()
    assert torch.equal(model(x), x)


@EVERY
def test_positions_are_a_set(pairwise):
    model, x = block(pairwise, dims=1), features(1)
    order = torch.randperm(x.shape[2])
    assert close(model(x[:, :, order]), model(x)[:, :, order])


@EVERY
def test_showing_everything_twice_changes_nothing(pairwise):
    """What the normalisation by C(x) is for: maps of another size give answers of the same size."""
    model, x = block(pairwise, dims=1), features(1)
    assert close(model(x.repeat(1, 1, 2))[:, :, : x.shape[2]], model(x))


@EVERY
@DIMS
def test_one_output_depends_on_every_position_and_on_no_other_sample(pairwise, dims):
    model, x = block(pairwise, dims=dims), features(dims)
    if pairwise is Concatenation:  # whose rectifier silences pairs below zero: with positive numbers there are none
        x = x.abs()
        for parameter in model.parameters():
            parameter.data.abs_()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[1].flatten(1)[:, -1].sum(), x)
    seen = gradient.abs().sum(1).flatten(1) > 0
    assert seen[1].all()
    assert not seen[[0, 2]].any()


def test_a_clip_is_a_long_image_when_nothing_is_pooled():
    model, x = block(dims=3), features(3)
    flat = block(dims=2)
    flat.load_state_dict({k: v[..., 0] if v.ndim == 5 else v for k, v in model.state_dict().items()})
    assert close(model(x).flatten(2, 3), flat(x.flatten(2, 3)))


def test_pooling_and_embedding_change_places_only_where_a_pixel_wins_in_all_channels():
    first, last = (block(subsample=2, subsampling=order) for order in (pool_then_embed, embed_then_pool))
    last.load_state_dict(first.state_dict())
    x = features(size=(4, 6))
    assert not close(first(x), last(x))
    constant = features(size=(2, 3)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert close(first(constant), last(constant))


@pytest.mark.parametrize("pairwise", [Gaussian, EmbeddedGaussian])
@pytest.mark.parametrize("side", [1, 2])
def test_the_weights_that_are_recorded_are_the_literal_ones(pairwise, side):
    model, x = block(pairwise, subsample=side), features()
    with record_attention(model) as maps:
        model(x)
    (weights,) = maps.values()
    assert close(weights[:, 0], model.weights(x))


def test_what_is_no_softmax_is_not_recorded():
    model, x = block(DotProduct), features()
    with pytest.raises(RuntimeError, match="no softmax attention"), record_attention(model):
        model(x)


def test_sizes_inside():
    model = NonLocal(22, pairwise=Concatenation)
    assert model.theta.weight.shape == model.phi.weight.shape == model.g.weight.shape == (11, 22, 1, 1)
    assert model.pairwise.weight.shape == (2, 11)
    assert not list(NonLocal(22, pairwise=Gaussian).theta.parameters())


def formula(c, *, embeds=True):
    """Parameters of a block: the maps, the biases of theta, phi and g, and the batch norm."""
    return (4 if embeds else 2) * c * (c // 2) + (3 if embeds else 1) * (c // 2) + 2 * c


COUNTS = {variant: line["parameters"] for variant, line in load_facts("non_local")["variants"].items()}
PLACES = {  # names of the modules, so that a block in the wrong place is seen
    "resnet50-1": ["2.5"],
    "resnet50-5": ["1.2", "1.5", "2.2", "2.5", "2.8"],
    "resnet50-10": ["1.1", "1.3", "1.5", "1.7", *(f"2.{i}" for i in range(1, 12, 2))],
    "resnet101-1": ["2.22"],
    "resnet101-5": ["1.2", "1.5", "2.7", "2.15", "2.23"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_its_blocks_in_place_and_the_parameters_of_its_parts(variant):
    with torch.device("meta"):
        model, bare = non_local_resnet(variant), resnet(VARIANTS[variant]["backbone"])
    found = {name: m for name, m in model.stages.named_modules() if isinstance(m, NonLocal)}
    assert list(found) == PLACES[variant]
    blocks = sum(formula(m.channels) for m in found.values())
    assert count_parameters(model) == COUNTS[variant] == count_parameters(bare) + blocks
    assert {m.subsample for m in found.values()} == {2}


def test_the_cost_of_a_block_follows_from_the_equations():
    c, d, y, x = 12, 6, 10, 14
    n, few = y * x, y * x // 4
    data = torch.zeros(1, c, y, x)
    cost = partial(count_macs, NonLocal(c, subsample=2))
    assert cost(data) == 2 * n * c * d + 2 * few * c * d + 2 * n * few * d
    assert count_macs(NonLocal(c, subsample=2, subsampling=embed_then_pool), data) == 4 * n * c * d + 2 * n * few * d
    assert count_macs(NonLocal(c, pairwise=DotProduct), data) == 4 * n * c * d + 2 * n * d * d


TINY = {"block": basic, "depths": (1, 2, 2, 1), "width": 6, "num_classes": 5}


def tiny(dims, **options):
    make = partial(NonLocal, dims=dims, subsample=2, **options)
    return randomised(insert(ResNet(**TINY), {1: (0, 1), 2: (0,)}, block=make)).double().eval()


@EVERY
def test_a_clip_of_one_frame_held_still_is_read_as_the_image(pairwise):
    space, spacetime = tiny(2, pairwise=pairwise), tiny(3, pairwise=pairwise)
    wanted = spacetime.state_dict()
    spacetime.load_state_dict({k: v.view_as(wanted[k]) for k, v in space.state_dict().items()})
    image = torch.randn(2, 3, 37, 43, dtype=torch.float64)
    clip = image[:, :, None].expand(-1, -1, 8, -1, -1)
    assert close(C2D(spacetime)(clip), space(image))


@pytest.mark.parametrize(("dims", "reach"), [(2, 1), (3, 2)])
def test_only_spacetime_blocks_carry_a_change_to_a_frame_far_away(dims, reach):
    model = C2D(tiny(dims))
    seen = []
    model.backbone.stages[2][-1].register_forward_hook(lambda _, args, out: seen.append(out))
    clip = torch.randn(1, 3, 16, 37, 43, dtype=torch.float64)
    moved = clip.clone()
    moved[:, :, 0] += 1
    model(clip), model(moved)
    before, after = (out.flatten(1) for out in seen)
    assert before.shape[0] == 2  # of the 16 frames
    assert int(((before - after).abs().amax(1) > 1e-9).sum()) == reach


def test_the_maps_of_a_clip_are_those_of_its_stages_with_time():
    model = C2D(tiny(3))
    clip = torch.randn(2, 3, 16, 37, 43, dtype=torch.float64)
    maps = model.features(clip)
    assert [m.shape[2] for m in maps] == [4, 2, 2, 2]
    assert close(model(clip), model.backbone.head(maps[-1].mean((-3, -2, -1))))


def test_the_places_and_the_frames_of_table_1():
    with torch.device("meta"):
        model = C2D(non_local_resnet("resnet50-1", num_classes=400, dims=3))
        sizes = {}
        for i, stage in enumerate(model.backbone.stages):
            stage[0].register_forward_hook(lambda _, args, out, i=i: sizes.update({i: tuple(out.shape)}))
        model.backbone.stages[2][5].register_forward_hook(lambda _, args, out: sizes.update(block=tuple(out.shape)))
        model(torch.empty(1, 3, 32, 224, 224))
    assert sizes == {
        0: (8, 256, 56, 56),
        1: (4, 512, 28, 28),
        2: (4, 1024, 14, 14),
        3: (4, 2048, 7, 7),
        "block": (1, 1024, 4, 14, 14),
    }


def test_bad_sizes_are_named(unchecked):
    with pytest.raises(ValueError, match="dims=4"):
        NonLocal(8, dims=4)
    with pytest.raises(ValueError, match="channels=1, inner=0"):
        NonLocal(1)
    with pytest.raises(ValueError, match="subsample=0"):
        NonLocal(8, subsample=0)
    with pytest.raises(ValueError, match=r"\(2, 5, 4, 4\), but the block was built for dims=2 and channels=8"):
        NonLocal(8)(torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match=r"\(2, 8, 4\), but the block was built for dims=2"):
        NonLocal(8)(torch.zeros(2, 8, 4))
    with pytest.raises(ValueError, match=r"a map of \(6, 1\) has nothing left after subsample=2"):
        NonLocal(8, subsample=2)(torch.zeros(2, 8, 6, 1))
    with pytest.raises(ValueError, match=r"unknown variant 'resnet50-7'; known: resnet50-1, .*, resnet101-5"):
        non_local_resnet("resnet50-7")


def test_a_game_of_memory_has_one_pair_of_two_images_and_no_other_pair():
    labels = digits()[0][1]
    which, places = memory_games(labels, 700, frames=7, generator=torch.Generator().manual_seed(0))
    shown = labels[which]
    alike = (shown[:, :, None] == shown[:, None, :]).triu(1)
    assert torch.equal(alike.nonzero()[:, 1:], places)
    assert (which.gather(1, places[:, :1]) != which.gather(1, places[:, 1:])).all()
    assert places.unique(dim=0).shape[0] == 21  # every pair of places is dealt


def test_a_game_needs_a_pair_and_enough_classes():
    draw = torch.Generator()
    for frames in (1, 11):
        with pytest.raises(ValueError, match=f"frames={frames}: a pair needs 2, and more than 10"):
            memory_games(digits()[0][1], 3, frames=frames, generator=draw)


def test_the_window_pans_over_a_scene_that_stands_still():
    clip = panning(frames=3, size=(11, 13), step=(2, 5))
    assert clip.shape == (3, 3, 11, 13)
    assert torch.equal(clip[:, 0, 2:, 5:], clip[:, 1, :-2, :-5])
    with pytest.raises(ValueError, match=r"the window reaches 28 x 172, but the scene has \(106, 160\) pixels"):
        panning(frames=30, size=(0, 19), step=(0, 5))
