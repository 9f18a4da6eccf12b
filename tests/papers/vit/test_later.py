"""Models of later papers on the same trunk, beside those of timm and transformers."""

from functools import partial

import pytest
import torch
from torch import nn

from attention_notes.claims import close, load_facts
from attention_notes.inspect import count_macs, count_parameters
from attention_notes.papers.vit import LATER, QuickGELU, vit
from attention_notes.papers.vit.family import FAMILY
from attention_notes.weights import load_weights, to_layout
from attention_notes.weights.checkpoints import checkpoints
from tests.weights.parity import CHANNELS, randomised

FACTS = load_facts("vit")["variants"]
SIZES = {
    "dim": 26,
    "depth": 2,
    "heads": 13,
    "hidden": 19,
    "patch": (2, 3),
    "image_size": (10, 21),
    "channels": CHANNELS,
}
TIMMS = {"img_size": (10, 21), "patch_size": (2, 3), "in_chans": CHANNELS, "embed_dim": 26, "depth": 2, "num_heads": 13}
TIMMS |= {"mlp_ratio": 19 / 26 + 1e-9}
CHANGES = {  # one variant of each paper, and what timm calls what it changed
    "S/14 DINOv2": {"init_values": 0.1},
    "S/14 DINOv2 registers": {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True},
    "S/16 DeiT III": {"init_values": 0.1, "no_embed_class": True},
    "B/16 CLIP": {"pre_norm": True, "norm_layer": nn.LayerNorm},
}
every_change = pytest.mark.parametrize("variant", CHANGES)


def timms(variant: str, classes: int) -> nn.Module:
    from timm.layers import QuickGELU as Theirs
    from timm.models.vision_transformer import VisionTransformer

    activation = {"act_layer": Theirs} if "CLIP" in variant else {}
    return randomised(VisionTransformer(**TIMMS, **CHANGES[variant], **activation, num_classes=classes))


def huggings(variant: str) -> nn.Module:
    import transformers

    sizes = {"image_size": 35, "patch_size": 5, "num_channels": CHANNELS, "hidden_size": 26}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 13}
    if "CLIP" in variant:
        sizes |= {"intermediate_size": 19, "projection_dim": 7}
        return randomised(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**sizes)))
    kind = "Dinov2WithRegisters" if "registers" in variant else "Dinov2"
    config = getattr(transformers, f"{kind}Config")(**sizes, mlp_ratio=2)
    return randomised(getattr(transformers, f"{kind}Model")(config))


@every_change
def test_weights_of_timm_load_give_its_numbers_and_travel_back(variant):
    theirs, x = timms(variant, 11), torch.randn(2, CHANNELS, 10, 21)
    ours = vit(variant, **SIZES, pretrained=theirs.state_dict()).eval()
    with torch.no_grad():
        assert close(ours(x), theirs(x))
        assert close(ours.tokens(x), theirs.forward_features(x))
    back = to_layout(ours, "timm")
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in back.items())


@pytest.mark.parametrize("variant", [name for name in CHANGES if "DeiT" not in name])
@pytest.mark.parametrize("classes", [None, 11])
def test_trunks_of_transformers_load_under_any_head(variant, classes):
    theirs = huggings(variant)
    build = partial(vit, variant, **SIZES | _in_transformers(variant), num_classes=classes)
    ours = build(pretrained=theirs.state_dict()).eval()
    x = torch.randn(2, CHANNELS, *ours.patches.image_size)
    with torch.no_grad():
        trunk = getattr(theirs, "vision_model", theirs)
        assert close(ours.read(ours.tokens(x)), trunk(x).pooler_output)
    assert ours.num_features == 26
    assert ours(x).shape == (2, classes or 26)


@pytest.mark.parametrize("variant", [name for name in CHANGES if "DeiT" not in name])
def test_files_of_transformers_are_read(variant, tmp_path):
    from safetensors.torch import load_file

    theirs = huggings(variant)
    build = partial(vit, variant, **SIZES | _in_transformers(variant), num_classes=None)
    theirs.save_pretrained(tmp_path)
    ours, again = build(pretrained=theirs.state_dict()), build()
    load_weights(again, load_file(tmp_path / "model.safetensors"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in ours.state_dict().items())


def _in_transformers(variant):
    """All is square there, DINOv2 has whole ratios, and with registers, too, a position for the class token."""
    sizes = {"patch": 5, "image_size": 35, "hidden": 19 if "CLIP" in variant else 52}
    return sizes | ({"class_position": True} if "registers" in variant else {})


def test_a_file_with_both_towers_of_clip_gives_that_of_images():
    theirs = huggings("B/16 CLIP")
    both = {**theirs.state_dict(), "logit_scale": torch.ones(()), "text_projection.weight": torch.ones(7, 5)}
    both |= {"text_model.encoder.layers.0.mlp.fc1.weight": torch.ones(3, 3)}
    build = partial(vit, "B/16 CLIP", **SIZES | _in_transformers("B/16 CLIP"), num_classes=None)
    ours, expected = build(pretrained=both), build(pretrained=theirs.state_dict())
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in expected.state_dict().items())


def test_clip_with_another_activation_is_another_model():
    theirs, x = timms("B/16 CLIP", 11), torch.randn(2, CHANNELS, 10, 21)
    ours = vit("B/16 CLIP", **SIZES, activation=nn.GELU, pretrained=theirs.state_dict()).eval()
    assert not close(ours(x), theirs(x))


def test_an_activation_by_hand():
    x = torch.tensor([-2.0, 0.0, 1.0])
    assert close(QuickGELU()(x), x / (1 + (-1.702 * x).exp()))


@pytest.mark.parametrize("variant", LATER)
def test_each_has_the_names_shapes_and_numbers_of_timms(variant):
    with torch.device("meta"):
        ours, theirs = vit(variant), FAMILY.reference(variant).build()
    named = {name: tensor.shape for name, tensor in to_layout(ours, "timm").items()}
    assert named == {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert count_parameters(ours) == FACTS[variant]["parameters"]
    assert round(count_macs(ours, torch.empty(1, 3, 224, 224, device="meta")) / 1e9, 2) == FACTS[variant]["gmacs"]
    norms = {module.eps for module in theirs.modules() if isinstance(module, nn.LayerNorm)}
    assert norms == {module.eps for module in ours.modules() if isinstance(module, nn.LayerNorm)}
    assert type(ours.blocks[0].mlp.activation).__name__ == type(theirs.blocks[0].mlp.act).__name__


def test_the_repositories_of_each_are_listed_and_are_those_that_its_reference_is_made_for():
    import timm

    for variant in LATER:
        repos = [c.repo for c in checkpoints().values() if (c.key, c.variant) == ("vit", variant)]
        assert repos, variant
        known = {timm.get_pretrained_cfg(name).hf_hub_id for name in timm.list_pretrained()}
        assert {*repos} <= known
