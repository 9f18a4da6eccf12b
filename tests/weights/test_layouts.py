"""A layout is a bijection: for every variant of every family by its names, for small ones by their tensors."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from attention_notes.nn.derived import remembered
from attention_notes.papers import families
from attention_notes.papers.cbam import cbam
from attention_notes.papers.pvt import V2, pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import MeanPooling, vit
from attention_notes.weights import layouts, load_weights, to_layout, to_timm
from attention_notes.weights.checkpoints import lists
from attention_notes.weights.layouts import Layout, fill
from tests.weights.cases import MODELS
from tests.weights.parity import randomised

UNPUBLISHED = ("swinv2_h", "swinv2_g")
VARIANTS = [
    (families()[key].factory, variant)
    for key in lists()
    for variant in families()[key].variants
    if variant not in UNPUBLISHED
]
EVERY = [(family, name) for family, build in MODELS.items() for name in layouts(build())]
every_layout = pytest.mark.parametrize(("family", "name"), EVERY)


@cache
def on_meta(build, variant):
    with torch.device("meta"):
        return build(variant)


@pytest.mark.parametrize(("build", "variant"), VARIANTS, ids=[f"{b.__name__} {v}" for b, v in VARIANTS])
def test_in_every_variant_each_tensor_of_either_side_stands_in_one_row(build, variant):
    model = on_meta(build, variant)
    names = model.state_dict().keys() - remembered(model)
    for layout in layouts(model).values():
        matches = layout.matches(names)
        ours = Counter(name for match in matches for name in match.ours)
        theirs = Counter(name for match in matches for name in match.theirs)
        assert ours == Counter(names), layout.name
        assert set(theirs.values()) == {1}, layout.name
        assert not theirs.keys() & layout.derived(model).keys(), layout.name


@every_layout
def test_there_and_back_is_the_identity(family, name):
    model, other = randomised(MODELS[family]()), MODELS[family]()
    state = to_layout(model, name)
    back = layouts(model)[name].to_ours(state, other)
    assert back.keys() == model.state_dict().keys() - remembered(model)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in back.items())
    assert all(tensor.is_contiguous() for tensor in state.values())


@every_layout
def test_names_tell_whose_weights_they_are(family, name):
    model, other = randomised(MODELS[family]()), MODELS[family]()
    assert load_weights(other, to_layout(model, name)) == name
    assert all(torch.equal(other.state_dict()[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", MODELS)
def test_a_models_own_state_dict_loads_as_it_is(family):
    model, other = randomised(MODELS[family]()), MODELS[family]()
    assert load_weights(other, model.state_dict()) == "this package"
    assert all(torch.equal(other.state_dict()[key], tensor) for key, tensor in model.state_dict().items())


@every_layout
@pytest.mark.parametrize(("kind", "into"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_weights_of_another_precision_load(family, name, kind, into):
    model, other = randomised(MODELS[family]()).to(kind), MODELS[family]().to(into)
    load_weights(other, to_layout(model, name))
    assert all(torch.equal(other.state_dict()[key], tensor.to(into)) for key, tensor in model.state_dict().items())


def test_other_tensors_under_our_names_get_theirs_and_nothing_is_added():
    model = randomised(MODELS["swin"]())
    counts = {name: torch.full_like(tensor, i) for i, (name, tensor) in enumerate(model.state_dict().items())}
    for name, layout in layouts(model).items():
        found = layout.to_theirs(model, counts)
        assert found.keys() == {key for match in layout.matches(counts) for key in match.theirs}, name
        assert sum(t.double().sum() for t in found.values()) == sum(t.double().sum() for t in counts.values())


def test_a_mean_pooled_vit_has_no_class_token_in_any_layout():
    model = vit("Ti/16", pooling=MeanPooling, image_size=32, depth=1)
    assert "cls_token" not in to_timm(model)
    assert load_weights(model, to_timm(model)) == "timm"


def test_what_a_layer_of_pre_training_holds_is_passed_over():
    model = randomised(MODELS["vit"]())
    spare = {"pre_logits/kernel": torch.zeros(3, 3), "pre_logits/bias": torch.zeros(3)}
    state = to_layout(model, "the authors") | spare
    assert load_weights(MODELS["vit"](), state) == "the authors"
    state = to_layout(model, "transformers, without its head") | {"pooler.dense.weight": torch.zeros(2, 2)}
    assert load_weights(MODELS["vit"](), state) == "transformers, without its head"


def test_who_has_no_such_model_cannot_be_written_for(unchecked):
    with pytest.raises(
        ValueError,
        match=r"no layout of 'timm' for this Pyramid.*; known: transformers; transformers, without its head; the",
    ):
        to_timm(MODELS["pvt"]())
    with pytest.raises(
        ValueError,
        match="no layout of 'torchvision' for this Swin; known: timm; transformers; transformers, without its head",
    ):
        to_layout(MODELS["swinv2"](), "torchvision")
    with pytest.raises(
        ValueError, match="no foreign weights are known for ResNet; for these they are: BERT, CaiT, Distilled"
    ):
        to_timm(cbam("cbam_resnet18", width=16, num_classes=5))


@pytest.mark.parametrize("variant", UNPUBLISHED)
def test_nobody_has_weights_of_the_largest_models_of_swin_v2(variant, unchecked):
    model = on_meta(swin, variant)
    said = r"nobody else has a Swin with stages\.2\.blocks\.6\.weight: no foreign weights are known for it"
    for ask in (layouts, to_timm, lambda m: load_weights(m, {"head.fc.weight": torch.zeros(2, 2)})):
        with pytest.raises(ValueError, match=said):
            ask(model)


def test_a_model_with_exchanged_parts_is_named(unchecked):
    class Scaled(nn.Module):
        def __init__(self, dim, *, grid):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(dim))

        def forward(self, x):
            return x * self.scale

    model = pvt("pvt_v2_b0", design=replace(V2, positions=Scaled))
    with pytest.raises(ValueError, match=r"with stages\.0\.positions\.scale: no foreign weights are known for it"):
        to_timm(model)


# a table of its own, small enough to follow by hand
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.joined = nn.Linear(2, 6)
        self.apart = nn.ModuleList(nn.Linear(3, 1, bias=False) for _ in range(2))
        self.turned = nn.Linear(5, 7, bias=False)


ROWS = (
    ("joined", ("a", "b", "c")),
    (("apart.0", "apart.1"), "both"),
    ("turned.weight", "turned/kernel", "i o -> o i"),
)


def test_a_table_by_hand():
    model, layout = Small(), Layout("mine", ROWS)
    theirs = layout.to_theirs(model)
    assert theirs.keys() == {f"{x}.{y}" for x in "abc" for y in ("weight", "bias")} | {"both.weight", "turned/kernel"}
    assert torch.equal(theirs["b.weight"], model.joined.weight[2:4])
    assert torch.equal(theirs["c.bias"], model.joined.bias[4:])
    assert torch.equal(theirs["both.weight"], torch.cat([model.apart[0].weight, model.apart[1].weight]))
    assert torch.equal(theirs["turned/kernel"], model.turned.weight.T)


def test_numbers_of_names_may_be_counted_otherwise():
    assert fill("block{i+1}.{j}", {"i": 3, "j": 10}) == "block4.10"
    assert fill("features.{2i+1}.{j}", {"i": 3, "j": 0}) == "features.7.0"
    assert fill("layers.{i-1}.downsample", {"i": 1}) == "layers.0.downsample"


def test_a_tensor_without_a_row_is_named(unchecked):
    with pytest.raises(ValueError, match=r"turned\.weight has no name in the layout of mine"):
        Layout("mine", ROWS[:2]).to_theirs(Small())


def test_parts_of_unequal_shapes_are_not_joined(unchecked):
    layout, model = Layout("mine", ROWS), Small()
    state = layout.to_theirs(model)
    uneven = state | {"a.weight": torch.zeros(1, 2), "b.weight": torch.zeros(3, 2)}  # six rows in all, as wanted
    with pytest.raises(ValueError, match=r"other shapes .*: a\.weight \(1, 2\), b\.weight \(3, 2\), c\.weight"):
        layout.to_ours(uneven, model)
