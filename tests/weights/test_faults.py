"""Weights that do not fit: the error names the tensor, and the model keeps all that it had."""

from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch

from attention_notes.papers.swin import swin
from attention_notes.weights import layouts, load_weights, to_layout
from tests.papers.swin.foreign import WINDOWS
from tests.weights.cases import MODELS
from tests.weights.parity import randomised

EVERY = [(family, name) for family, build in MODELS.items() for name in layouts(build())]
every_layout = pytest.mark.parametrize(("family", "name"), EVERY)
pytestmark = pytest.mark.usefixtures("unchecked")


@contextmanager
def refused(model, *words):
    """A ValueError with these words, after which no tensor of the model is another."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r".") as caught:
        yield
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def weights_and_another(family, name):
    """Somebody's weights, names of some of them, and a model that would take them all."""
    model, other = randomised(MODELS[family]()), randomised(MODELS[family]())
    state, derived = to_layout(model, name), layouts(model)[name].derived(model)
    return state, [each for each in state if each not in derived][::23], other


@every_layout
def test_a_missing_tensor_is_named(family, name):
    state, some, model = weights_and_another(family, name)
    for missing in some:
        with refused(model, f"not the weights of this {type(model).__name__} as in {name}: no {missing}"):
            load_weights(model, {key: tensor for key, tensor in state.items() if key != missing})


@every_layout
def test_a_tensor_too_many_is_named(family, name):
    state, _, model = weights_and_another(family, name)
    for unknown in ("blocks.99.attn.qkv.weight", "layers.9.blocks.9.attn_mask", "norm.scale", "head"):
        with refused(model, f"as in {name}: unknown {unknown}"):
            load_weights(model, state | {unknown: torch.zeros(3)})


def spoilt(tensor):
    """The same in other shapes."""
    yield torch.cat([tensor, tensor[:1]])
    yield tensor[None]
    yield tensor[..., :-1]
    yield torch.zeros(())
    if tensor.ndim == 2 and tensor.shape[0] != tensor.shape[1]:
        yield tensor.T


@every_layout
def test_a_tensor_of_another_shape_is_named(family, name):
    state, some, model = weights_and_another(family, name)
    for spoil in some:
        for other in spoilt(state[spoil]):
            with refused(model, spoil, str(tuple(other.shape))):
                load_weights(model, state | {spoil: other})


@every_layout
def test_two_tensors_in_each_others_place_are_named(family, name):
    state, some, model = weights_and_another(family, name)
    for a, b in pairwise(some):
        if state[a].shape != state[b].shape:
            with refused(model):
                load_weights(model, state | {a: state[b], b: state[a]})


@pytest.mark.parametrize("family", MODELS)
def test_so_it_is_with_our_own_names(family):
    model, other = randomised(MODELS[family]()), randomised(MODELS[family]())
    state = model.state_dict()
    for name in list(state)[::23]:
        with refused(other, name):
            load_weights(other, {key: tensor for key, tensor in state.items() if key != name})
        with refused(other, name, str(tuple(state[name][None].shape))):
            load_weights(other, state | {name: state[name][None]})


@pytest.mark.parametrize("family", MODELS)
def test_weights_of_every_other_family_are_refused(family):
    model = randomised(MODELS[family]())
    for other, name in EVERY:
        if other != family and not (family == "deit" and other == "vit"):
            with refused(model):
                load_weights(model, to_layout(MODELS[other](), name))


def test_a_distilled_model_is_not_filled_from_a_plain_one():
    model = randomised(MODELS["deit"]())
    with refused(model, "no dist_token, head_dist.bias, head_dist.weight"):
        load_weights(model, to_layout(MODELS["vit"](), "timm"))


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("vit", {"depth": 3}, ("no blocks.2.attn.proj.bias", "and 8 more")),
        ("vit", {"depth": 1}, ("unknown blocks.1.attn.proj.bias",)),
        ("vit", {"dim": 39}, ("pos_embed (1, 36, 26) for positions (1, 36, 39)",)),
        ("vit", {"image_size": (12, 21)}, ("pos_embed (1, 36, 26) for positions (1, 43, 26)",)),
        ("vit", {"num_classes": 7}, ("head.weight (23, 26) for head.weight (7, 26)",)),
        ("swin", {"depths": (2, 5, 2)}, ("no layers.1.blocks.3.attn.proj.bias",)),
        ("swin", {"window": (3, 4)}, ("relative_position_bias_table of shape (45, 3)", "'dx': 7")),
        ("swinv2", {"heads": (3, 5, 4)}, ("layers.2.blocks.0.attn.logit_scale (2, 1, 1)",)),
        ("pvt_v2", {"depths": (1, 2, 1, 3)}, ("no stages.3.blocks.2.attn.kv.bias",)),
        ("pvt_v2", {"ratios": (3, 2, 1, 1)}, ("unknown stages.2.blocks.0.attn.norm.bias",)),
        ("pvt_v2", {"expansions": (3, 2, 5, 3)}, ("stages.3.blocks.0.mlp.fc1.weight (136, 34)",)),
    ],
)
def test_weights_of_another_variant_are_told_apart_by_name_or_shape(family, options, words):
    model = randomised(MODELS[family](**options))
    with refused(model, *words):
        load_weights(model, to_layout(MODELS[family](), "timm"))


def test_positions_of_another_size_are_named_for_pvt():
    model = randomised(MODELS["pvt"](image_size=(64, 96)))
    with refused(model, "pvt.encoder.patch_embeddings.0.position_embeddings of shape (1, 256, 14)", "'gx': 24"):
        load_weights(model, to_layout(MODELS["pvt"](), "transformers"))
    model = randomised(MODELS["pvt"](image_size=(64, 96)))
    state = to_layout(model, "the authors") | {"pos_embed4": torch.zeros(1, 5, 34)}
    with refused(model, "pos_embed4 (1, 5, 34) for pooling.position (1, 1, 1, 34), stages.3.positions.table"):
        load_weights(model, state)


# V2 has the same parameters for every size: what follows from it is all that tells
@pytest.mark.parametrize(
    ("built", "resized", "named"),
    [
        ({"window": (3, 4)}, None, "layers.0.blocks.0.attn.relative_position_index of shape (15, 15)"),
        ({"image_size": (48, 60)}, None, "layers.0.blocks.1.attn_mask of shape (16, 15, 15)"),
        # the same windows, but of a model that was trained in others
        (
            {"image_size": (16, 60), "window": (2, 5)},
            ((24, 60), (3, 5)),
            "layers.0.blocks.0.attn.relative_coords_table of shape (1, 5, 9, 2)",
        ),
    ],
)
def test_weights_of_other_windows_are_refused_where_the_file_tells(built, resized, named):
    model = randomised(swin("swinv2_t", **WINDOWS | built))
    if resized:
        model.resize(resized[0], window=resized[1])
    with refused(model, named, "build it for the image size and window of the weights, load, then resize it"):
        load_weights(model, to_layout(swin("swinv2_t", **WINDOWS), "the authors"))


@pytest.mark.parametrize("family", ["swin", "swinv2"])
def test_what_follows_from_sizes_may_stand_in_any_file_and_must_be_right(family):
    for name, layout in layouts(MODELS[family]()).items():
        model = randomised(MODELS[family]())
        derived = layout.derived(model)
        assert bool(derived) is ("as loaded" not in name)
        state = to_layout(model, name) | derived
        assert load_weights(model, state) == name
        for key, tensor in list(derived.items())[::5]:
            with refused(model, key):
                load_weights(model, state | {key: tensor.flip(-1)})
            with refused(model, key):
                load_weights(model, state | {key: tensor[..., :-1]})
        written = to_layout(model, name).keys() & derived.keys()
        assert written == (derived.keys() if layout.writes_derived else set())
