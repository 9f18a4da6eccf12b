"""CPVT against timm's trunk and generator, against the equation written out, and against published counts."""

from functools import cache, partial

import pytest
import torch
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.inspect.attention_maps import see
from attention_notes.papers.cpvt import CPVT, VARIANTS, PositionEncodingGenerator, cpvt
from attention_notes.papers.positional_encoding import ConditionalPositions
from attention_notes.papers.vit import ClassToken, MeanPooling, PatchEmbedding, vit
from attention_notes.papers.vit.weights import LAYOUTS
from attention_notes.weights import to_timm

RECORDED = load_facts("cpvt")["variants"]
TIMM = next(layout for layout in LAYOUTS if layout.name == "timm")

# images 5 channels of 22 x 39, cut 2 x 3 into a grid of 11 x 13; every other dimension another prime
CHANNELS, IMAGE, PATCH, GRID = 5, (22, 39), (2, 3), (11, 13)
HEADS, DIM, HIDDEN, DEPTH, CLASSES, BATCH = 7, 7 * 2, 19, 3, 23, 3
SIZES = {"dim": DIM, "heads": HEADS, "hidden": HIDDEN, "depth": DEPTH, "patch": PATCH, "channels": CHANNELS}
AFTER = (0, 1)  # behind the last layer a class token would not see the code
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
POOLINGS = pytest.mark.parametrize("pooling", [ClassToken, MeanPooling])
BORDERLESS = partial(PositionEncodingGenerator, padding_mode="circular")


def small(**overrides):
    return randomised(cpvt("Ti", num_classes=CLASSES, **(SIZES | {"after": AFTER} | overrides)))


def randomised(model):
    """Norms start at one, biases at zero: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "token" in name:
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def images(dtype=torch.float32, size=IMAGE):
    return torch.randn(BATCH, CHANNELS, *size, dtype=dtype)


class Timms(nn.Module):
    """timm's ViT without positions, and between its blocks the generators of its Twins."""

    def __init__(self, *, pooled):
        from timm.models.twins import PosConv
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        self.trunk = VisionTransformer(
            img_size=IMAGE,
            patch_size=PATCH,
            in_chans=CHANNELS,
            num_classes=CLASSES,
            embed_dim=DIM,
            depth=DEPTH,
            num_heads=HEADS,
            mlp_ratio=HIDDEN / DIM + 1e-9,
            pos_embed="none",
            class_token=not pooled,
            global_pool="avg" if pooled else "token",
            fc_norm=False,
        )
        self.generators = nn.ModuleDict({str(i): PosConv(DIM, DIM) for i in AFTER})
        self.extra, self.maps = int(not pooled), []
        for i, block in enumerate(self.trunk.blocks):
            block.register_forward_hook(partial(self.code, i))

    def code(self, i, block, given, z):
        if i in AFTER:
            patches = self.generators[str(i)](z[:, self.extra :], GRID)
            z = torch.cat([z[:, : self.extra], patches], dim=1)
        self.maps.append(z[:, self.extra :].mT.unflatten(2, GRID))
        return z

    def forward(self, x):
        self.maps.clear()
        return self.trunk(x)


def named_as_timm(model, tensors):
    """Ours, or gradients of ours, under the names of ``Timms``."""
    trunk = {name: tensor for name, tensor in tensors.items() if ".positions." not in name}
    named = {f"trunk.{name}": tensor for name, tensor in TIMM.to_theirs(model, trunk).items()}
    for name in tensors.keys() - trunk.keys():
        _, i, _, _, kind = name.split(".")
        named[f"generators.{i}.proj.0.{kind}"] = tensors[name]
    return named


def both(pooling, dtype=torch.float32):
    ours, theirs = small(pooling=pooling).to(dtype), Timms(pooled=pooling is MeanPooling).to(dtype).eval()
    theirs.load_state_dict(named_as_timm(ours, ours.state_dict()), strict=True)
    return ours, theirs


@DTYPES
@POOLINGS
def test_outputs_and_gradients_equal_those_of_timm(dtype, pooling):
    ours, theirs = both(pooling, dtype)
    x = images(dtype).requires_grad_()
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(y)
    assert close(a, b)
    toward, names = torch.randn_like(a), dict(ours.named_parameters())
    found = torch.autograd.grad(a, [*names.values(), x], toward)
    got = named_as_timm(ours, dict(zip(names, found, strict=False)))
    expected = dict(theirs.named_parameters())
    assert got.keys() == expected.keys()
    gradients = torch.autograd.grad(b, [*expected.values(), y], toward)
    for name, gradient in zip(expected, gradients, strict=False):
        assert gradient.abs().max() > 0, name
        assert close(got[name], gradient), name
    assert close(found[-1], gradients[-1])


@POOLINGS
def test_the_map_after_each_layer_equals_timms(pooling):
    ours, theirs = both(pooling)
    x = images()
    theirs(x)
    assert all(close(a, b) for a, b in zip(ours.features(x), theirs.maps, strict=True))
    assert [m.shape for m in ours.features(x)] == [(BATCH, DIM, *GRID)] * DEPTH


@cache
def on_meta(variant):
    with torch.device("meta"):
        return cpvt(variant).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_parameters_of_deit_but_for_positions_and_the_recorded_cost(variant):
    size, row = variant.split(" ")[0], VARIANTS[variant]
    dim, generators = row["dim"], len(row["after"])
    with torch.device("meta"):
        parent = vit(f"{size}/16", pooling=row["pooling"])
        image = torch.empty(1, 3, 224, 224)
    assert generators == (1 if variant == size else 5)
    expected = count_parameters(parent) - parent.positions.numel() + generators * (9 + 1) * dim
    assert count_parameters(on_meta(variant)) == RECORDED[variant]["parameters"] == expected
    macs = count_macs(on_meta(variant), image)
    assert macs == count_macs(parent.eval(), image) + generators * 9 * dim * 14**2
    assert round(macs / 1e9, 2) == RECORDED[variant]["gmacs"]


def test_the_weights_start_as_the_authors_code_starts_them():
    """The generator as in the code for Twins, which timm has; all else but the patches as timm's DeiT."""
    import timm

    ours, twins = cpvt("Ti 0-5"), timm.create_model("twins_pcpvt_small", depths=(1, 1, 1, 1))
    deit = dict(timm.create_model("deit_tiny_patch16_224", depth=12).named_parameters())
    spread = torch.cat([block.proj[0].weight.flatten() for block in twins.pos_block]).abs().median()
    for block in ours.blocks[:5]:
        convolution = block.positions.convolution
        assert convolution.weight.detach().abs().median() / spread.detach() == pytest.approx(1, abs=0.15)
        assert not convolution.bias.any()
    trunk = {name: tensor for name, tensor in ours.state_dict().items() if ".positions." not in name}
    for name, tensor in TIMM.to_theirs(ours, trunk).items():
        if "patch_embed" in name:
            continue
        if deit[name].unique().numel() == 1:
            assert torch.equal(tensor, deit[name]), name
        elif tensor.numel() > 2000:
            assert tensor.abs().median() / deit[name].detach().abs().median() == pytest.approx(1, abs=0.1), name
    assert ours.pooling.token.detach().std() == pytest.approx(0.02, rel=0.25)


def test_stochastic_depth_is_that_of_deit():
    assert {variant: on_meta(variant).blocks[-1].drop_path.p for variant in VARIANTS} == dict.fromkeys(VARIANTS, 0.1)


# the generator


def test_the_code_of_a_place_by_hand():
    peg = PositionEncodingGenerator(1)
    nn.init.ones_(peg.convolution.weight)
    nn.init.constant_(peg.convolution.bias, 0.5)
    coded = peg(torch.ones(1, 3, 4, 1))[0, ..., 0]
    assert coded.tolist() == [[5.5, 7.5, 7.5, 5.5], [7.5, 10.5, 10.5, 7.5], [5.5, 7.5, 7.5, 5.5]]
    with pytest.raises(ValueError, match="kernel=4: give an odd number"):
        PositionEncodingGenerator(1, kernel=4)


@DTYPES
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_generator_is_the_sum_over_the_neighbours_of_each_place(dtype, kernel):
    peg, x = randomised(PositionEncodingGenerator(7, kernel=kernel)).to(dtype), torch.randn(2, 5, 6, 7, dtype=dtype)
    weight, bias, reach = peg.convolution.weight, peg.convolution.bias, kernel // 2
    for row in range(5):
        for column in range(6):
            literal = x[:, row, column] + bias
            for i in range(max(row - reach, 0), min(row + reach + 1, 5)):
                for j in range(max(column - reach, 0), min(column + reach + 1, 6)):
                    literal = literal + weight[:, 0, i - row + reach, j - column + reach] * x[:, i, j]
            assert close(peg(x)[:, row, column], literal)


def test_it_adds_what_the_conditional_positions_of_the_chapter_on_positions_are():
    """Those are for tokens in a row, without the sum, and recorded trainings were run with them."""
    peg, other = randomised(PositionEncodingGenerator(7)), ConditionalPositions(7, columns=6)
    other.load_state_dict(peg.state_dict())
    x = torch.randn(2, 5, 6, 7)
    row = x.flatten(1, 2)
    assert close(peg(x).flatten(1, 2), row + other(row))


def test_away_from_the_border_the_code_moves_with_the_map_and_at_the_border_it_does_not():
    x, by = torch.randn(1, 9, 10, 7), (2, 3)
    for padding_mode in ("zeros", "circular"):
        peg = randomised(PositionEncodingGenerator(7, padding_mode=padding_mode))
        moved = (peg(x.roll(by, (1, 2))) - peg(x).roll(by, (1, 2))).abs().amax((0, 3)) < 1e-5
        inside = torch.ones(9, 10, dtype=torch.bool)
        if padding_mode == "zeros":  # where a border was before, or is now
            inside[[0, 8, 1, 2]] = False
            inside[:, [0, 9, 2, 3]] = False
        assert torch.equal(moved, inside)


# the model


@POOLINGS
def test_without_generators_it_is_a_vit_whose_positions_are_zero(pooling):
    ours = small(after=(), pooling=pooling)
    sizes = {name: SIZES[name] for name in ("dim", "heads", "hidden", "depth", "patch", "channels")}
    parent = vit("Ti/16", image_size=IMAGE, num_classes=CLASSES, pooling=pooling, **sizes).eval()
    missing, unexpected = parent.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (["positions"], [])
    nn.init.zeros_(parent.positions)
    x = images()
    assert torch.equal(ours(x), parent(x))


@POOLINGS
@pytest.mark.parametrize("after", [(), AFTER])
def test_without_generators_the_order_of_patches_does_not_matter_and_with_them_it_does(after, pooling):
    model, x = small(after=after, pooling=pooling).double(), images(torch.float64)
    tiles = x.unflatten(2, (11, 2)).unflatten(4, (13, 3))
    shuffled = tiles[:, :, torch.randperm(11)].flatten(4).flatten(2, 3)
    assert bool(close(model(shuffled), model(x))) == (not after)


def test_a_generator_follows_the_layers_that_are_named_and_the_class_token_passes_it():
    model, order = small(), []
    for name, module in model.named_modules():
        if isinstance(module, PositionEncodingGenerator) or name.endswith("mlp"):
            module.register_forward_hook(lambda m, i, o, name=name: order.append(name.removeprefix("blocks.")))
    z = model.embed(images())
    plain = super(type(model.blocks[0]), model.blocks[0]).forward(z)
    coded = model.blocks[0](z, *GRID)
    assert order == ["0.mlp", "0.mlp", "0.positions"]
    assert torch.equal(coded[:, 0], plain[:, 0])
    assert close(coded[:, 1:], model.blocks[0].positions(plain[:, 1:].unflatten(1, GRID)).flatten(1, 2))
    order.clear()
    model(images())
    assert order == ["0.mlp", "0.positions", "1.mlp", "1.positions", "2.mlp"]


def kinds(tokens):
    """How many different ones there are of the tokens of a map ``c gy gx``."""
    rows = tokens.flatten(1).mT
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return int((~(apart < 1e-9).tril(-1).any(1)).sum())


@POOLINGS
def test_on_an_image_of_one_colour_each_generator_tells_one_ring_more_from_the_inside(pooling):
    grey = torch.full((1, CHANNELS, *IMAGE), 0.4, dtype=torch.float64)
    zeros = small(after=(0, 1, 2), pooling=pooling).double()
    assert [kinds(m[0]) for m in zeros.features(grey)] == [3 * 3, 5 * 5, 7 * 7]
    deep = small(after=range(6), depth=6, pooling=pooling).double()
    assert [kinds(m[0]) for m in deep.features(grey)][4:] == [11 * 11, 11 * 13]
    around = small(after=(0, 1, 2), positions=BORDERLESS, pooling=pooling).double()
    assert [kinds(m[0]) for m in around.features(grey)] == [1] * 3


@POOLINGS
def test_without_a_border_the_answer_does_not_change_when_the_image_moves_by_whole_patches(pooling):
    x, by = images(torch.float64), (4, 9)
    for positions, moves in ((BORDERLESS, True), (PositionEncodingGenerator, False)):
        model = small(positions=positions, pooling=pooling).double()
        rolled = x.roll(by, (2, 3))
        assert bool(close(model(rolled), model(x))) == moves
        pairs = zip(model.features(rolled), model.features(x), strict=True)
        assert [bool(close(a, b.roll((2, 3), (2, 3)))) for a, b in pairs] == [moves] * DEPTH


def test_every_size_that_patches_tile_is_taken_with_the_same_parameters(unchecked):
    model, wide = small(), images(size=(30, 60))
    before = dict(model.named_parameters())
    logits = model(wide)
    assert logits.shape == (BATCH, CLASSES)
    assert [m.shape for m in model.features(wide)] == [(BATCH, DIM, 15, 20)] * DEPTH
    assert model.resize((30, 60)) is model
    assert torch.equal(model(wide), logits)
    assert all(p is before[name] for name, p in model.named_parameters())
    with pytest.raises(ValueError, match=r"images of 23 x 39 cannot be cut into patches of 2 x 3: give sides"):
        model(images(size=(23, 39)))
    with pytest.raises(ValueError, match=r"an image of 22 x 40 cannot be cut"):
        model.resize((22, 40))


def test_a_stem_of_one_size_makes_a_model_of_one_size(unchecked):
    stem = PatchEmbedding(DIM, image_size=IMAGE, patch=PATCH, channels=CHANNELS)
    model = CPVT(stem, depth=2, heads=HEADS, hidden=HIDDEN, num_classes=CLASSES, registers=2)
    assert model(images()).shape == (BATCH, CLASSES)
    assert model.features(images())[0].shape == (BATCH, DIM, *GRID)
    with pytest.raises(ValueError, match=r"built for 22 x 39"):
        model(images(size=(30, 60)))
    assert model.resize((30, 60))(images(size=(30, 60))).shape == (BATCH, CLASSES)


def test_what_is_asked_in_vain_is_refused_by_name(unchecked):
    with pytest.raises(ValueError, match=r"after=\(0, 3\): a generator follows a layer, and these are 0 to 2"):
        small(after=(0, 3))
    with pytest.raises(ValueError, match=r"did you mean 'Ti GAP'"):
        cpvt("TiGAP")
    with pytest.raises(ValueError, match=r"nobody else has a CPVT with blocks\.0\.positions\.convolution"):
        to_timm(small())


def test_neither_a_depthwise_nor_a_separable_generator_gives_both_printed_counts():
    """Table 5 prints 23M and 88M."""

    def separable(dim):
        return nn.Sequential(PositionEncodingGenerator(dim), nn.Linear(dim, dim))

    found = {}
    for variant in ("S 0-5", "B 0-5"):
        with torch.device("meta"):
            counts = [
                count_parameters(cpvt(variant, positions=make)) for make in (PositionEncodingGenerator, separable)
            ]
        found[variant] = [f"{count / 1e6:.1f}" for count in counts]
    assert found == {"S 0-5": ["22.0", "22.7"], "B 0-5": ["86.5", "89.4"]}


def test_a_kernel_that_reaches_every_border_tells_all_places_apart():
    wide = partial(PositionEncodingGenerator, kernel=27)
    model = small(after=(0,), positions=wide, pooling=MeanPooling).double()
    grey = torch.full((1, CHANNELS, *IMAGE), 0.4, dtype=torch.float64)
    assert kinds(model.features(grey, [0])[0][0]) == 11 * 13


def test_positions_are_not_decayed():
    model = small()
    kept = {p for g in model.parameter_groups(1e-3) if g["weight_decay"] == 0 for p in g["params"]}
    assert {n for n, p in model.named_parameters() if p in kept and p.ndim > 1} == {
        "pooling.token",
        *(f"blocks.{i}.positions.convolution.weight" for i in AFTER),
    }


@pytest.mark.parametrize("size", [IMAGE, (30, 60)])
def test_patches_are_seen_where_they_lie_on_an_image_of_any_size(size):
    seen = see(small(), images(size=size)[:1])
    assert len(seen.layers) == DEPTH
    gaze = next(iter(seen.layers.values())).map((4, 7))
    assert gaze.places.shape == (1, HEADS, size[0] // 2, size[1] // 3)
    assert seen.rollout().places.shape[-2:] == (size[0] // 2, size[1] // 3)
