"""Weights of timm, torchvision and transformers: they load, give the same logits, and travel back bit for bit."""

import json
from functools import cache

import pytest
import torch

from attention_notes.claims import close
from attention_notes.papers import families, swin
from attention_notes.weights import layouts, load_weights, to_layout
from tests.discovery import of_papers
from tests.papers.pvt.foreign import with_the_authors_norms
from tests.weights.cases import CASES, MODELS
from tests.weights.parity import logits

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
TRANSFORMERS = {name: case for name, case in CASES.items() if name.endswith("transformers")}


def assert_equal(ours, theirs):
    """The same names, shapes, kinds and bits."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


@every_case
def test_a_references_weights_load_give_its_logits_and_travel_back(case):
    ours, theirs, x = case.ours().eval(), case.theirs(), case.images()
    assert load_weights(ours, theirs.state_dict()) == case.layout
    assert close(logits(ours, x), logits(theirs, x))
    assert_equal(to_layout(ours, case.layout), theirs.state_dict())


@every_case
def test_what_is_loaded_and_what_is_written_shares_no_memory(case):
    ours, state = case.ours(), case.theirs().state_dict()
    load_weights(ours, state)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for tensor in (*state.values(), *to_layout(ours, case.layout).values()):
        tensor.zero_()
    assert_equal(ours.state_dict(), before)


@pytest.fixture
def quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.mark.parametrize("case", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_files_of_transformers_are_read_and_written(case, tmp_path, quiet):
    from safetensors.torch import load_file, save_file

    ours, theirs, x = case.ours().eval(), case.theirs(), case.images()
    theirs.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert load_weights(ours, state) == "transformers"
    assert close(logits(ours, x), logits(theirs, x))
    assert_equal(to_layout(ours, "transformers"), state)

    (tmp_path / "model.safetensors").unlink()
    save_file(to_layout(ours, "transformers"), tmp_path / "model.safetensors", metadata={"format": "pt"})
    again, said = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert {kind: list(names) for kind, names in said.items() if len(names)} == {}
    assert torch.equal(logits(with_the_authors_norms(again), x), logits(theirs, x))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(theirs).__name__]


@pytest.mark.parametrize("case", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_a_trunk_that_transformers_has_without_a_head_is_read_from_modules_and_files(case, tmp_path, quiet):
    from safetensors.torch import load_file

    theirs = case.theirs()
    trunk = theirs.base_model
    trunk.save_pretrained(tmp_path)
    whole = case.ours(num_classes=None, pretrained=theirs.state_dict()).eval()
    pooler = {"pooler.dense.weight": torch.ones(3, 3), "pooler.dense.bias": torch.ones(3)}
    for state in (trunk.state_dict(), load_file(tmp_path / "model.safetensors")):
        assert not [name for name in state if name.startswith(theirs.base_model_prefix)]
        assert_equal(case.ours(num_classes=None, pretrained=state).state_dict(), whole.state_dict())
        if type(theirs).__name__.startswith(("ViT", "DeiT")):  # they have a pooler when they are built by themselves
            assert_equal(case.ours(num_classes=None, pretrained=state | pooler).state_dict(), whole.state_dict())
    assert {*dict(case.ours(num_classes=3, pretrained=state).named_children())} == {*dict(whole.named_children())}


def test_files_of_torchvision_name_a_perceptrons_layers_otherwise_than_its_modules():
    case = CASES["vit torchvision"]
    ours, theirs, x = case.ours().eval(), case.theirs(), case.images()
    load_weights(ours, theirs.state_dict())
    before = logits(theirs, x)
    file = to_layout(ours, "torchvision")
    assert load_weights(case.ours(), file) == "torchvision"
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.zero_()
    theirs.load_state_dict(file, strict=True)  # it translates them
    assert torch.equal(logits(theirs, x), before)


@pytest.mark.parametrize("name", ["swin timm", "swin torchvision", "swinv2 transformers", "pvt transformers"])
def test_without_a_head_the_rest_travels(name):
    case = CASES[name]
    ours, state = case.ours(), case.theirs().state_dict()
    load_weights(ours, state)
    headless = case.ours(num_classes=None)
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "classifier."))}
    assert load_weights(headless, rest) == case.layout
    assert_equal(to_layout(headless, case.layout), rest)
    for name, tensor in headless.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name])


# every kind of model, the smallest and the largest; the papers' own tests count the parameters of all
PUBLISHED = [
    *(("vit", variant) for variant in ("Ti/16", "B/32", "H/14")),
    *(("deit", variant) for variant in ("S/16", "B/16 384 distilled")),
    *(("swin", variant) for variant in ("swin_t", "swin_b_384", "swinv2_t", "swinv2_b_window16", "swinv2_l")),
    *(("pvt", variant) for variant in ("pvt_tiny", "pvt_large", "pvt_v2_b0", "pvt_v2_b2_li", "pvt_v2_b5")),
]


@cache
def on_meta(build, variant):
    with torch.device("meta"):
        return build(variant)


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(("key", "variant"), PUBLISHED)
def test_published_models_have_the_names_and_shapes_of_their_references(key, variant):
    family = families()[key]
    reference = family.reference(variant)
    with torch.device("meta"):
        theirs = reference.build()
    assert shapes(to_layout(on_meta(family.factory, variant), reference.layout)) == shapes(theirs.state_dict())


@pytest.mark.parametrize("variant", ["swin_t", "swin_b"])
def test_published_models_have_the_names_and_shapes_of_torchvision(variant):
    import torchvision

    with torch.device("meta"):
        theirs = getattr(torchvision.models, variant)()
    assert shapes(to_layout(on_meta(swin.swin, variant), "torchvision")) == shapes(theirs.state_dict())


LAYOUTS = {name: known for _, name, known in of_papers("foreign", "LAYOUTS")}


@pytest.mark.parametrize("family", MODELS)
def test_the_layouts_of_a_family_are_these(family):
    assert layouts(MODELS[family]()).keys() == LAYOUTS[family]
