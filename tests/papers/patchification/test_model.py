"""Patches of every size against timm, extended tokens against loops, costs against the equations and the paper."""

import itertools
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_activations, count_macs, count_parameters
from attention_notes.inspect.token_geometry import Grid
from attention_notes.nn.vision import VisionModel
from attention_notes.papers.deit import DistilledVisionTransformer, TwoTokens, deit
from attention_notes.papers.patchification import VARIANTS, ExtendedPatches, patchification
from attention_notes.papers.patchification.family import FAMILY, MOST
from attention_notes.papers.vit import PatchEmbedding, VisionTransformer
from attention_notes.papers.vit.family import SIZES
from attention_notes.weights import to_timm
from tests.papers.vit.test_model import assert_same, randomised

FACTS = load_facts("patchification")["variants"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])

# every dimension another prime, but for what heads and patches divide
SMALL = {"dim": 7 * 11, "depth": 2, "heads": 7, "hidden": 19, "num_classes": 23}
IMAGE, CHANNELS = (12, 18), 5
PATCHES = [(6, 6), (3, 2), (2, 3), (1, 2), (1, 1)]
every_patch = pytest.mark.parametrize("patch", PATCHES, ids=str)


def small(variant="B/1 64", **overrides):
    options = {**SMALL, "image_size": IMAGE, "channels": CHANNELS, **overrides}
    return randomised(patchification(variant, **options)).eval()


def timms(patch, image_size=IMAGE):
    from timm.models.vision_transformer import VisionTransformer as Reference

    sizes = {"embed_dim": 77, "depth": 2, "num_heads": 7, "mlp_ratio": 19 / 77 + 1e-9, "num_classes": 23}
    return Reference(img_size=image_size, patch_size=patch, in_chans=CHANNELS, **sizes)


@cache
def on_meta(variant, **options):
    with torch.device("meta"):
        return patchification(variant, **options).eval()


def picture(variant):
    side = VARIANTS[variant]["image_size"]
    return torch.empty(1, 3, side, side, device="meta")


# the models


@every_patch
@DTYPES
def test_outputs_and_gradients_equal_those_of_timm(patch, dtype):
    assert_same(small(patch=patch).to(dtype), timms(patch).to(dtype), "timm")


@every_patch
def test_a_model_has_the_layers_and_the_outputs_of_a_deit_on_such_patches(patch):
    ours = small(patch=patch)
    parent = deit("B/16", **SMALL, patch=patch, image_size=IMAGE, channels=CHANNELS).eval()
    assert type(ours) is VisionTransformer
    parent.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, CHANNELS, *IMAGE)
    assert torch.equal(ours(x), parent(x))


def test_a_seed_gives_the_weights_that_it_gives_a_deit():
    models = []
    for factory, variant in ((patchification, "B/16 128"), (deit, "B/16")):
        torch.manual_seed(3)
        models.append(factory(variant, **SMALL, patch=2, image_size=8).state_dict())
    assert all(torch.equal(models[0][name], tensor) for name, tensor in models[1].items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timms_and_the_recorded_cost(variant):
    import timm

    row, size = VARIANTS[variant], SIZES[variant.partition("/")[0]]
    name = f"vit_{size}_patch{14 if size == 'huge' else 16}_224"
    sizes = {"patch_size": row["patch"], "img_size": row["image_size"], "num_classes": 1000}
    with torch.device("meta"):
        theirs = timm.create_model(name, **sizes)
    model = on_meta(variant)
    assert count_parameters(model) == FACTS[variant]["parameters"] == count_parameters(theirs)
    assert round(count_macs(model, picture(variant)) / 1e9, 2) == FACTS[variant]["gmacs"]
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in to_timm(model).items()} == shapes


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_of_few_tokens_is_run_whole_beside_timm_and_one_of_many_is_not(variant):
    row, found = VARIANTS[variant], FAMILY.reference(variant)
    if (row["image_size"] // row["patch"]) ** 2 > MOST:
        assert found == "timm's at fewer layers, in the tests"
        return
    with torch.device("meta"):
        theirs = found.build()
    assert theirs.patch_embed.patch_size == (row["patch"], row["patch"])
    assert count_parameters(theirs) == FACTS[variant]["parameters"]


def test_the_lengths_are_those_of_tables_1_and_6():
    lengths = {"B/1 64": 4096, "B/16": 196, "B/8": 784, "B/4": 3136, "B/2": 12_544, "B/1": 50_176}
    assert {variant: on_meta(variant).positions.shape[1] - 1 for variant in lengths} == lengths


@pytest.mark.parametrize("variant", ["B/16", "B/4", "B/1", "B/2 128", "H/16"])
def test_the_cost_follows_from_the_equations(variant):
    row = VARIANTS[variant]
    length, width = (row["image_size"] // row["patch"]) ** 2, row["dim"]
    maps, pairs = 12 * (length + 1) * width**2, 2 * (length + 1) ** 2 * width
    patches = length * 3 * row["patch"] ** 2 * width
    model = on_meta(variant)
    assert count_macs(model, picture(variant)) == patches + row["depth"] * (maps + pairs) + width * 1000
    written = length * width + row["depth"] * 9 * (length + 1) * width + 1000
    assert count_activations(model, picture(variant)) == written


def test_smaller_patches_move_parameters_from_the_map_to_the_positions():
    of_blocks = {}
    for patch in (16, 8, 4, 2, 1):
        model = on_meta(f"B/{patch}")
        assert model.patches.projection.weight.shape == (768, 3 * patch**2)
        assert model.positions.shape == (1, (224 // patch) ** 2 + 1, 768)
        other = model.patches.projection.weight.numel() + model.positions.numel()
        of_blocks[patch] = count_parameters(model) - other
    assert len({*of_blocks.values()}) == 1


# the degenerate cases


def test_on_a_patch_as_large_as_the_image_there_is_one_token_and_the_map_reads_all_pixels():
    model = small(patch=IMAGE)
    x = torch.randn(2, CHANNELS, *IMAGE)
    assert model.patches.grid == (1, 1)
    assert close(model.patches(x)[:, 0], model.patches.projection(x.flatten(1)))


def test_on_patches_of_a_pixel_the_map_reads_the_colours_of_each_pixel_by_itself():
    model = small(patch=1)
    x = torch.randn(2, CHANNELS, *IMAGE)
    assert model.patches.projection.in_features == CHANNELS
    assert close(model.patches(x), model.patches.projection(x.flatten(2).mT))


@pytest.mark.parametrize("patch", [1, 2, 6])
def test_pixels_within_a_patch_may_change_places_if_the_map_does_and_those_of_others_may_not(patch):
    model, x = small(patch=patch).double(), torch.randn(2, CHANNELS, *IMAGE, dtype=torch.float64)
    before, turned = model(x), x.unflatten(3, (-1, patch)).flip(4).flatten(3)
    weight = model.patches.projection.weight
    weight.data = weight.data.unflatten(1, (CHANNELS, patch, patch)).flip(3).flatten(1)
    assert close(model(turned), before)
    assert not close(model(x.flip(3)), before)


@pytest.mark.parametrize(
    ("size", "patch", "rank"),
    [("Ti", 16, 192), ("Ti", 8, 192), ("S", 16, 384), ("B", 16, 768), ("L", 16, 768), ("B", 1, 3)],
)
def test_at_birth_the_map_of_a_patch_has_full_rank(size, patch, rank):
    """It keeps all 3 p^2 numbers of a patch unless the token is narrower."""
    width = VARIANTS[f"{size}/16"]["dim"]
    stem = PatchEmbedding(width, image_size=patch, patch=patch)
    assert rank == min(width, 3 * patch**2)
    assert torch.linalg.matrix_rank(stem.projection.weight.double()) == rank


@pytest.mark.parametrize("patch", [16, 8, 1])
def test_initial_scales_are_those_of_the_authors_code(patch):
    """DeiT's linear maps, token and positions; a map of patches whose spread falls with its inputs, as lecun_normal."""
    model = patchification("B/16 128", patch=patch, image_size=32, depth=1)
    for module in (model.blocks[0].attention.qkv, model.blocks[0].mlp.expand, model.head):
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not module.bias.any()
    for drawn in (model.positions, model.pooling.token):
        assert drawn.std().item() == pytest.approx(0.02, rel=0.15)
    weight = model.patches.projection.weight.detach().flatten()
    assert kstest(weight.numpy() * (3 * patch**2) ** 0.5, "norm").pvalue > 1e-4
    assert not model.patches.projection.bias.any()
    # so that tokens of every patch size start equally large
    x = torch.randn(4, 3, 32, 32)
    assert model.patches(x).std().item() == pytest.approx(1, rel=0.1)
    assert [block.drop_path.p for block in patchification("B/1 64", **SMALL, image_size=4).blocks] == [0, 0.1]


# the protocol


@every_patch
def test_every_block_keeps_the_grid_and_the_width(patch):
    model = small(patch=patch)
    assert isinstance(model, VisionModel)
    maps = model.features(torch.randn(2, CHANNELS, *IMAGE))
    assert {m.shape for m in maps} == {(2, 77, IMAGE[0] // patch[0], IMAGE[1] // patch[1])}


def test_a_resized_model_equals_timms_resized_model():
    ours, theirs = small(patch=2), timms(2)
    theirs.load_state_dict(to_timm(ours))
    theirs.eval().set_input_size((24, 10))
    assert ours.resize((24, 10)) is ours
    x = torch.randn(2, CHANNELS, 24, 10)
    assert close(ours(x), theirs(x))


def test_weights_of_ones_own_are_taken_bit_for_bit(tmp_path):
    model = small(patch=2)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    options = {name: value for name, value in SMALL.items() if name != "num_classes"}
    again = patchification(
        "B/1 64", pretrained=tmp_path / "own.pt", patch=2, image_size=IMAGE, channels=CHANNELS, **options
    )
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_recorded_size_is_used_unless_another_is_given():
    assert patchification("B/16 128", depth=1).patches.image_size == (128, 128)
    assert patchification("B/16 128", depth=1, image_size=(32, 48)).patches.image_size == (32, 48)


def test_with_a_second_token_it_is_the_distilled_deit_on_such_patches():
    model = small(patch=6, extend=2, pooling=TwoTokens)
    assert isinstance(model, DistilledVisionTransformer)
    assert model.encoder.patches.grid == (4, 6)
    assert model(torch.randn(2, CHANNELS, *IMAGE)).shape == (2, 23)


# extended tokens


def literal(tokens, grid, times):
    """Bilinear interpolation of ``tokens`` in loops: middles lie half a step inside, borders repeat."""
    rows, columns = grid
    table = tokens.unflatten(1, grid)

    def near(at, count):
        at = min(max(at, 0), count - 1)
        low = min(int(at), count - 1)
        return low, min(low + 1, count - 1), at - low

    made = []
    for y in range(rows * times):
        above, below, down = near((y + 0.5) / times - 0.5, rows)
        for x in range(columns * times):
            left, right, across = near((x + 0.5) / times - 0.5, columns)
            upper = (1 - across) * table[:, above, left] + across * table[:, above, right]
            lower = (1 - across) * table[:, below, left] + across * table[:, below, right]
            made.append((1 - down) * upper + down * lower)
    return torch.stack(made, 1)


def stems(times, patch=6, **options):
    """Large patches, and the same extended."""
    told = {"image_size": IMAGE, "patch": patch, "channels": CHANNELS}
    plain, extended = PatchEmbedding(13, **told), ExtendedPatches(13, **told, times=times)
    nn.init.normal_(plain.projection.bias)
    extended.load_state_dict(plain.state_dict(), strict=True)
    return plain.to(**options), extended.to(**options)


def test_four_tokens_of_two_by_hand():
    """0 and 8, extended once: 0 and 2, 6 and 8."""
    stem = ExtendedPatches(1, image_size=(2, 4), patch=2, times=2, channels=1)
    stem.projection.weight.data.fill_(1.0)
    image = torch.tensor([[0.0, 0, 1, 3], [0, 0, 2, 2]])[None, None]
    assert stem.grid == (2, 4)
    assert stem(image)[0, :, 0].tolist() == [0, 2, 6, 8, 0, 2, 6, 8]


@DTYPES
@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_extended_tokens_equal_loops_in_outputs_and_gradients(dtype, times):
    plain, extended = stems(times, dtype=dtype)
    x = torch.randn(2, CHANNELS, *IMAGE, dtype=dtype, requires_grad=True)
    ours, wanted = extended(x), literal(plain(x), plain.grid, times)
    assert ours.shape == (2, extended.grid[0] * extended.grid[1], 13)
    assert close(ours, wanted)
    toward = torch.randn_like(ours)
    for own, other in ((x, x), *zip(extended.parameters(), plain.parameters(), strict=True)):
        (a,), (b,) = (torch.autograd.grad(y, p, toward, retain_graph=True) for y, p in ((ours, own), (wanted, other)))
        assert close(a, b)


def test_once_extended_is_not_extended():
    plain, extended = stems(1)
    x = torch.randn(2, CHANNELS, *IMAGE)
    assert torch.equal(extended(x), plain(x))
    assert type(patchification("B/16 128", depth=1, extend=1).patches) is PatchEmbedding


def test_extended_tokens_have_the_rank_of_their_patches_and_small_patches_have_more():
    side = {"image_size": 48, "channels": 3}
    extended = ExtendedPatches(77, **side, patch=16, times=4).double()
    scaled = PatchEmbedding(77, **side, patch=4).double()
    x = torch.randn(1, 3, 48, 48, dtype=torch.float64)
    assert extended(x).shape == scaled(x).shape == (1, 144, 77)
    assert torch.linalg.matrix_rank(extended(x)[0]) == 9
    assert torch.linalg.matrix_rank(scaled(x)[0]) == 48, "3 numbers for each of 16 pixels"


def test_an_extended_model_has_the_blocks_of_small_patches_and_the_map_of_large_ones():
    extended, scaled = small("B/16 128", patch=6, extend=3), small("B/16 128", patch=2)
    (of_extended, of_scaled) = ({n: p.shape for n, p in m.named_parameters()} for m in (extended, scaled))
    assert of_extended.keys() == of_scaled.keys()
    differ = {name for name in of_scaled if of_scaled[name] != of_extended[name]}
    assert differ == {"patches.projection.weight"}
    x = torch.randn(2, CHANNELS, *IMAGE)
    assert extended.features(x)[-1].shape == scaled.features(x)[-1].shape
    scaled.patches = extended.patches
    scaled.load_state_dict(extended.state_dict())
    assert torch.equal(extended(x), scaled(x))


def test_resizing_extended_tokens_follows_the_image():
    model = small(patch=6, extend=2)
    assert model.resize((24, 6)).patches.grid == (8, 2)
    assert model(torch.randn(2, CHANNELS, 24, 6)).shape == (2, 23)


@pytest.mark.parametrize(("extend", "patch"), [(3, (16, 16)), (0, (16, 16)), (2, (6, 3))])
def test_patches_that_cannot_be_shared_out_are_refused_with_the_sizes(extend, patch, unchecked):
    y, x = patch
    message = f"a patch of {y} x {x} pixels cannot be shared out among {extend} x {extend} tokens"
    with pytest.raises(ValueError, match=message):
        patchification("B/16", patch=patch, extend=extend)
    with pytest.raises(ValueError, match=message):
        ExtendedPatches(7, image_size=48, patch=patch, times=extend)


def test_what_is_not_there_is_refused_with_what_is(unchecked):
    with pytest.raises(ValueError, match="unknown variant 'B/1 128'; known: Ti/16"):
        patchification("B/1 128")
    with pytest.raises(ValueError, match="an image of 64 x 64 cannot be cut into patches of 7 x 7"):
        patchification("B/1 64", patch=7)


# where tokens lie


def test_an_extended_token_lies_on_its_share_of_a_patch_and_was_made_of_its_neighbours():
    _, extended = stems(3)
    grid = Grid(IMAGE).through(extended)
    assert (grid.size, grid.centre, grid.stride) == ((6, 9), (0.5, 0.5), (2.0, 2.0))
    for index in (0, 4, 31, 53):
        x = torch.ones(1, CHANNELS, *IMAGE, requires_grad=True)
        nn.init.ones_(extended.projection.weight)
        (gradient,) = torch.autograd.grad(extended(x)[0, index, 0], x)
        share = F.one_hot(torch.tensor([index]), 54).float().unflatten(1, (6, 9))
        assert close(grid.back(share), gradient[:, 0] / gradient[:, 0].sum())


# memory


def kept(model, x):
    """Bytes that a forward pass keeps for the backward pass, parameters left out, shared memory once."""
    seen = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(x)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    total = sum(storage.nbytes() for where, storage in seen.items() if where not in own)
    return total, out


def test_what_training_keeps_grows_with_the_tokens_and_not_with_their_pairs():
    build = partial(patchification, "B/1 64", **SMALL, image_size=32, drop_path=0.0)
    lengths, bytes_kept = [], []
    for patch in (8, 4, 2):
        model = build(patch=patch).train()
        x = torch.randn(1, 3, 32, 32)
        model(x)
        lengths.append(model.positions.shape[1])
        bytes_kept.append(kept(model, x)[0])
    slopes = [(b - a) / (m - n) for (a, b), (n, m) in zip(*map(itertools.pairwise, (bytes_kept, lengths)), strict=True)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.02)
