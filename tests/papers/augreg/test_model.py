"""AugReg against timm: models, checkpoints and the recipes in their names; and what the sweep hands to a model."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.papers.augreg import (
    CHECKPOINTS,
    LEVELS,
    PRETRAINING,
    RECIPES,
    TRANSFER,
    VARIANTS,
    Level,
    Recipe,
    augreg,
    prior_bias,
    published,
    schedule,
    sigmoid_loss,
    sweep,
)
from attention_notes.papers.augreg.data import FIGURE_4
from attention_notes.papers.vit import VisionTransformer, vit
from attention_notes.weights import to_timm
from attention_notes.weights.checkpoints import checkpoints
from tests.papers.vit.test_model import assert_same, randomised

FACTS = load_facts("augreg")["variants"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
# every dimension another prime, but for what heads and patches divide
SMALL = {"dim": 7 * 11, "depth": 3, "heads": 7, "hidden": 19, "patch": (2, 3), "num_classes": 23}
IMAGE, CHANNELS = (10, 21), 5
TIMMS = {"img_size": IMAGE, "patch_size": (2, 3), "in_chans": CHANNELS, "embed_dim": 77, "depth": 3, "num_heads": 7}


def small(variant="B/16 i1k", **overrides):
    return augreg(variant, **{**SMALL, "image_size": IMAGE, "channels": CHANNELS, **overrides})


# the models


@DTYPES
def test_outputs_and_gradients_equal_those_of_timm(dtype):
    from timm.models.vision_transformer import VisionTransformer as Reference

    theirs = Reference(**TIMMS, mlp_ratio=19 / 77 + 1e-9, num_classes=23)
    assert_same(randomised(small()).eval().to(dtype), theirs.to(dtype), "timm")


def test_a_model_has_the_layers_and_the_outputs_of_the_vit_of_its_size():
    ours = small().eval()
    parent = vit("B/16", **SMALL, image_size=IMAGE, channels=CHANNELS).eval()
    assert type(ours) is VisionTransformer
    parent.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, CHANNELS, *IMAGE)
    assert torch.equal(ours(x), parent(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_timms_and_the_recorded_cost(variant):
    import timm

    size, patch = VARIANTS[variant]["size"].split("/")
    name = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}[size]
    with torch.device("meta"):
        model, theirs = augreg(variant).eval(), timm.create_model(f"vit_{name}_patch{patch}_224", img_size=224)
        assert count_macs(model, torch.empty(1, 3, 224, 224)) / 1e9 == pytest.approx(FACTS[variant]["gmacs"], abs=0.005)
    assert count_parameters(model) == FACTS[variant]["parameters"] == sum(p.numel() for p in theirs.parameters())
    assert to_timm(model).keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_has_the_regularisation_of_its_recipe(variant):
    recipe, model = RECIPES[variant], augreg(variant, **SMALL, image_size=IMAGE, channels=CHANNELS)
    assert model.dropout.p == recipe.dropout
    rates = [block.drop_path.p for block in model.blocks]
    assert rates == pytest.approx([0, recipe.stochastic_depth / 2, recipe.stochastic_depth])
    other = augreg(variant, **SMALL, image_size=IMAGE, channels=CHANNELS, dropout=0.3, drop_path=0.2)
    assert (other.dropout.p, other.blocks[-1].drop_path.p) == (0.3, 0.2)


def test_regularisation_acts_in_training_only():
    model, x = small(), torch.randn(2, CHANNELS, *IMAGE)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_with_its_prior_every_class_has_its_share_and_the_loss_is_small():
    """Their configurations have -6.9 for 1,000 classes and -10 for 21,843, and weights of zero: ours are small."""
    model, many = augreg("Ti/16", depth=1, image_size=32).eval(), torch.nn.Linear(3, 21843)
    prior_bias(model.head)
    prior_bias(many)
    assert model.head.bias.unique().item() == pytest.approx(-6.9, abs=0.01)
    assert many.bias.unique().item() == pytest.approx(-10, abs=0.01)
    images, targets = torch.randn(4, 3, 32, 32), F.one_hot(torch.arange(4), 1000).float()
    torch.nn.init.zeros_(model.head.weight)
    logits = model(images)
    assert close(logits.sigmoid(), torch.full_like(logits, 1 / 1001))
    assert sigmoid_loss(logits, targets).item() == pytest.approx(math.log(1001) + 999 * math.log(1001 / 1000), rel=1e-5)
    assert augreg("Ti/16", depth=1, image_size=32, num_classes=None).num_classes is None


def test_initial_scales_are_those_of_vit():
    model = augreg("Ti/16", depth=1)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.02)
    for part in model.blocks[0].attention.qkv.weight.chunk(3):
        assert part.abs().max().item() == pytest.approx((6 / (192 + 192)) ** 0.5, rel=0.01)
    assert not model.pooling.token.any()
    assert not model.head.bias.any()
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.02)


# the recipes


def test_the_sweep_is_a_cross_product_of_28_and_every_file_is_read_back():
    recipes = sweep("B/16", data="i21k", epochs=30)
    assert len(recipes) == len(set(recipes)) == 28
    assert len({recipe.file for recipe in recipes}) == 28
    assert [Recipe.read(recipe.file) for recipe in recipes] == recipes
    assert RECIPES["B/16"] in sweep("B/16", data="i21k", epochs=300)


@pytest.mark.parametrize("variant", RECIPES)
def test_recommended_recipes_are_in_the_sweep_and_say_where_they_are_from(variant):
    recipe = RECIPES[variant]
    assert recipe in sweep(recipe.model, data=recipe.data, epochs=300)
    assert recipe.source


def test_a_name_is_read_with_its_folder_its_fine_tuning_and_its_ending():
    name = "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"
    told = Recipe.read(f"gs://vit_models/augreg/{name}--imagenet2012-steps_20k-lr_0.03-res_384.npz", source="a table")
    assert told == RECIPES["B/16"]
    assert (told.file, told.source, told.augmentation) == (name, "a table", Level(2, 15, 0.2))
    assert told.options == {"dropout": 0.0, "drop_path": 0.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_224", "tells no recipe: a name is like B_16-i21k"),
        ("B_16-i21k-300ep-lr_0.001-aug_light2-wd_0.1-do_0.0-sd_0.0", "its level one of none, light0, light1, medium1"),
        ("R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "is a hybrid of a ResNet and a ViT"),
    ],
)
def test_names_that_tell_no_recipe_are_refused(unchecked, name, message):
    with pytest.raises(ValueError, match=message):
        Recipe.read(name)


def test_an_unknown_level_is_refused_with_those_that_are_known():
    values = {"model": "B/16", "data": "i1k", "epochs": 300, "weight_decay": 0.1}
    with pytest.raises(ValueError, match="unknown level of augmentation 'heavy1'; known: none, light1"):
        Recipe(level="heavy1", dropout=0.0, stochastic_depth=0.0, **values)


def test_the_best_b32_of_figure_4_is_the_one_whose_file_is_recommended():
    """Of all settings it has the highest validation accuracy in pre-training, by which section 4.5 chooses."""
    without, regularised = FIGURE_4["i21k 300"]["B/32"]
    best = max(zip(without, LEVELS, strict=True))
    assert best[0] > max(*regularised, *sorted(without)[:-1])
    assert best[1] == RECIPES["B/32"].level


@pytest.mark.parametrize("variant", [v for v in RECIPES if RECIPES[v].data == "i21k" and v != "B/8"])
def test_what_is_recommended_is_best_in_figure_4_to_the_digit(variant):
    recipe = RECIPES[variant]
    row = FIGURE_4["i21k 300"][recipe.model]
    assert row[recipe.dropout > 0][[*LEVELS].index(recipe.level)] == max(max(half) for half in row)


def test_levels_grow():
    """Of magnitude and of alpha; the operations are two but for the first."""
    triples = [(level.magnitude, level.alpha) for level in LEVELS.values()]
    assert triples == sorted(triples)
    assert [level.layers for level in LEVELS.values()] == [0, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("name", ["none", "light1", "light2", "medium2", "strong2"])
def test_the_share_that_stays_is_the_larger_part_of_a_beta_variable(name):
    level = LEVELS[name]
    shares = [level.share() for _ in range(400)]
    if not level.alpha:
        assert shares == [1.0] * 400
        return
    pairs = torch.distributions.Beta(*[torch.tensor(level.alpha, dtype=torch.float64)] * 2).sample((20_000,))
    assert kstest(shares, torch.maximum(pairs, 1 - pairs).numpy()).pvalue > 1e-4
    assert min(shares) >= 0.5


# training


def test_the_rate_rises_on_a_line_and_falls_on_a_cosine():
    def rate(step):
        return schedule(step, total=90_000)

    assert [rate(step) for step in (0, 2_500, 10_000, 50_000, 90_000)] == pytest.approx([0, 0.25, 1, 0.5, 0], abs=1e-12)
    assert schedule(0, total=10, warmup=0) == 1
    for total, warmup in ((10, 10), (10, -1)):
        with pytest.raises(ValueError, match=f"a warm-up of {warmup} steps in a training of 10"):
            schedule(3, total=total, warmup=warmup)


def test_matrices_decay_by_rate_times_weight_decay_and_nothing_else_does():
    """Section 3.3: decoupled, but multiplied by the rate; 0.1 times 0.001 is the 0.0001 of their configurations."""
    model = small().double()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1.0)
        parameter.grad = torch.zeros_like(parameter)
    RECIPES["B/16"].optimizer(model).step()
    decayed = {name for name, p in model.named_parameters() if not torch.equal(p, torch.ones_like(p))}
    assert decayed == {n for n, p in model.named_parameters() if n.endswith("weight") and p.ndim == 2}
    assert close(model.head.weight, torch.full_like(model.head.weight, 1 - 1e-4))
    assert RECIPES["B/16"].optimizer(model).defaults["betas"] == PRETRAINING["betas"] == (0.9, 0.999)


def test_the_loss_is_each_class_by_itself():
    logits, targets = torch.randn(3, 5).double(), torch.rand(3, 5).double()
    literal = -(targets * logits.sigmoid().log() + (1 - targets) * (1 - logits.sigmoid()).log()).sum(1).mean()
    assert close(sigmoid_loss(logits, targets), literal)


def test_a_longer_fine_tuning_has_the_longer_warmup():
    for row in TRANSFER.values():
        assert [*row.steps] == sorted(row.steps)
        assert all(warmup < total for total, warmup in row.steps)


# the weights


def test_checkpoints_are_those_that_vit_lists_and_the_recipes_those_of_the_files_that_timm_converted():
    import timm

    listed = {repo: c for repo, c in checkpoints().items() if ".augreg_" in repo}
    assert CHECKPOINTS.keys() == listed.keys()
    for repo, recipe in CHECKPOINTS.items():
        url = timm.get_pretrained_cfg(repo.removeprefix("timm/")).url
        assert url.startswith("https://storage.googleapis.com/vit_models/augreg/")
        assert Recipe.read(url) == recipe
        assert (listed[repo].key, listed[repo].variant) == ("vit", recipe.model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_weights_and_the_first_are_tuned_to_imagenet_at_224_pixels(variant):
    first, *others = (checkpoints()[repo] for repo in published(variant))
    assert (first.labels, first.size, first.variant) == ("imagenet", None, VARIANTS[variant]["size"])
    assert others


def test_published_weights_come_from_the_list_of_vit_without_the_regularisation_of_pretraining(monkeypatch):
    from attention_notes.papers.augreg import model

    asked, made = [], small()
    monkeypatch.setattr(model, "vit", lambda size, **options: asked.append((size, options)) or made)
    augreg("B/16 i1k", pretrained=True, num_classes=7)
    augreg("B/16", pretrained="timm/vit_base_patch16_384.augreg_in21k_ft_in1k", dropout=0.1)
    assert asked == [
        ("B/16", {"num_classes": 7, "pretrained": "timm/vit_base_patch16_224.augreg_in1k"}),
        ("B/16", {"dropout": 0.1, "pretrained": "timm/vit_base_patch16_384.augreg_in21k_ft_in1k"}),
    ]


@pytest.mark.parametrize("other", ["timm/vit_base_patch16_224.augreg_in1k", "timm/vit_base_patch16_224.orig_in21k"])
def test_weights_of_another_recipe_are_refused_with_those_that_there_are(other):
    with pytest.raises(ValueError, match=r"holds no weights of augreg 'B/16', which are timm/vit_base_patch16_224.aug"):
        augreg("B/16", pretrained=other)


def test_weights_of_ones_own_are_taken_bit_for_bit_and_training_goes_on_as_it_began(tmp_path):
    model = randomised(small())
    torch.save(model.state_dict(), tmp_path / "own.pt")
    options = {name: value for name, value in SMALL.items() if name != "num_classes"}
    for source in (model.state_dict(), tmp_path / "own.pt"):
        again = augreg("B/16 i1k", pretrained=source, image_size=IMAGE, channels=CHANNELS, **options)
        assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
        assert again.dropout.p == 0.1


def test_an_unknown_variant_is_refused_with_the_names_that_there_are():
    for options in ({}, {"pretrained": True}):
        with pytest.raises(ValueError, match="unknown variant 'B/16 i21k'; known: Ti/16, S/32"):
            augreg("B/16 i21k", **options)
