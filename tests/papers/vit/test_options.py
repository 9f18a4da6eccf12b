"""What later papers added to the ViT, against timm and transformers: the same tensors, outputs and gradients."""

from functools import partial

import pytest
import torch

from attention_notes.claims import close
from attention_notes.papers.deit import VARIANTS as DEITS
from attention_notes.papers.deit import deit
from attention_notes.papers.vit import VARIANTS, Block, MeanPooling, vit
from attention_notes.weights import layouts, load_weights, to_layout, to_timm
from tests.papers.vit.foreign import FLAT
from tests.weights.parity import CHANNELS, CLASSES, randomised

TIMM = {"img_size": (10, 21), "patch_size": (2, 3), "in_chans": CHANNELS, "num_classes": CLASSES}
TIMM |= {"embed_dim": 26, "depth": 2, "num_heads": 13, "mlp_ratio": 19 / 26 + 1e-9}
OPTIONS = {
    "LayerScale": ({"layer_scale": 0.1}, {"init_values": 0.1}),
    "no bias of queries, keys and values": ({"qkv_bias": False}, {"qkv_bias": False}),
    "a norm before the blocks": ({"pre_norm": True, "patch_bias": False}, {"pre_norm": True}),
    "no position for the class token": ({"class_position": False}, {"no_embed_class": True}),
    "registers": ({"registers": 4, "class_position": False}, {"reg_tokens": 4, "no_embed_class": True}),
    "registers beside a mean": (
        {"registers": 4, "pooling": MeanPooling},
        {"reg_tokens": 4, "no_embed_class": True, "class_token": False, "global_pool": "avg", "fc_norm": False},
    ),
    "all": (
        {"layer_scale": 0.1, "qkv_bias": False, "pre_norm": True, "patch_bias": False, "registers": 4}
        | {"class_position": False},
        {"init_values": 0.1, "qkv_bias": False, "pre_norm": True, "reg_tokens": 4, "no_embed_class": True},
    ),
}
every_option = pytest.mark.parametrize(("options", "other"), OPTIONS.values(), ids=OPTIONS.keys())


def timms(**options):
    from timm.models.vision_transformer import VisionTransformer

    return randomised(VisionTransformer(**TIMM | options))


def assert_same(ours, theirs, name, read=lambda out: out):
    """The same tensors give the same outputs, and the same gradients of the images and of every parameter."""
    layout = layouts(ours)[name]
    x = torch.randn(3, CHANNELS, *ours.patches.image_size, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), read(theirs(y))
    assert close(a, b)
    toward = torch.randn_like(a)
    a.backward(toward)
    b.backward(toward)
    assert close(x.grad, y.grad)
    got = layout.to_theirs(ours, {key: p.grad for key, p in ours.named_parameters()})
    expected = {key: p.grad for key, p in theirs.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for key, gradient in expected.items():
        assert gradient.abs().max() > 0, key
        assert close(got[key], gradient), key


@every_option
def test_outputs_and_gradients_equal_those_of_timm(options, other):
    ours, theirs = randomised(vit("Ti/16", **FLAT, **options)).double(), timms(**other).double()
    assert load_weights(ours, theirs.state_dict()) == "timm"
    assert_same(ours, theirs, "timm")
    back = to_timm(ours)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in theirs.state_dict().items())


@every_option
def test_a_resized_model_equals_timms(options, other):
    ours, theirs = randomised(vit("Ti/16", **FLAT, **options)), timms(**other)
    load_weights(ours, theirs.state_dict())
    theirs.set_input_size((22, 39))
    x = torch.randn(2, CHANNELS, 22, 39)
    assert close(ours.resize((22, 39))(x), theirs(x))


@every_option
def test_the_map_after_each_block_equals_timms(options, other):
    ours, theirs = randomised(vit("Ti/16", **FLAT, **options)), timms(**other)
    load_weights(ours, theirs.state_dict())
    x = torch.randn(2, CHANNELS, 10, 21)
    maps, expected = ours.features(x), theirs.forward_intermediates(x, intermediates_only=True)
    assert all(close(a, b) for a, b in zip(maps, expected, strict=True))
    assert [m.shape for m in maps] == [(2, 26, 5, 7)] * 2


@pytest.mark.parametrize("registers", [0, 4])
def test_outputs_and_gradients_equal_dinov2_of_transformers(registers):
    import transformers

    sizes = {"image_size": 21, "patch_size": 3, "num_channels": CHANNELS, "hidden_size": 26, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 13, "mlp_ratio": 2}
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        theirs = randomised(transformers.Dinov2WithRegistersModel(config)).double()
    else:
        theirs = randomised(transformers.Dinov2Model(transformers.Dinov2Config(**sizes))).double()
    options = FLAT | {"patch": 3, "image_size": 21, "hidden": 52, "num_classes": None, "layer_scale": 0.1}
    ours = randomised(vit("Ti/16", **options, registers=registers)).double()
    name = "transformers, DINOv2, as loaded"
    assert load_weights(ours, theirs.state_dict()) == name
    assert_same(ours, theirs, name, read=lambda out: out.last_hidden_state[:, 0])


def test_a_file_of_dinov2_that_transformers_writes_is_read(tmp_path):
    import transformers
    from safetensors.torch import load_file

    sizes = {"image_size": 21, "patch_size": 3, "num_channels": CHANNELS, "hidden_size": 26, "num_hidden_layers": 2}
    theirs = randomised(
        transformers.Dinov2Model(transformers.Dinov2Config(**sizes, num_attention_heads=13, mlp_ratio=2))
    )
    theirs.save_pretrained(tmp_path)
    options = FLAT | {"patch": 3, "image_size": 21, "hidden": 52, "num_classes": None, "layer_scale": 0.1}
    ours = vit("Ti/16", **options)
    load_weights(ours, load_file(tmp_path / "model.safetensors"))
    x = torch.randn(2, CHANNELS, 21, 21)
    assert close(ours.eval()(x), theirs(x).last_hidden_state[:, 0])


def test_a_distilled_model_has_the_same_options():
    options = {"layer_scale": 0.1, "registers": 2, "pre_norm": True, "qkv_bias": False}
    ours, other = (deit("Ti/16 distilled", **FLAT, **options) for _ in range(2))
    state = to_layout(randomised(ours), "timm")
    assert {"reg_token", "norm_pre.weight", "blocks.1.ls2.gamma"} <= state.keys()
    load_weights(other, state)
    x = torch.randn(2, CHANNELS, 10, 21)
    assert torch.equal(ours.eval()(x), other.eval()(x))


def test_who_has_no_such_tensors_is_no_layout():
    assert set(layouts(vit("Ti/16", **FLAT, registers=2))) == {"timm"}
    assert "torchvision" not in layouts(vit("Ti/16", **FLAT, layer_scale=0.1))


@pytest.mark.parametrize("build", [vit, partial(deit, drop_path=0.0)], ids=["vit", "deit"])
@pytest.mark.parametrize("variant", ["Ti/16", "Ti/16 distilled"])
def test_weights_of_attentions_and_what_they_give_are_dropped_each_by_its_own_rate(build, variant):
    if variant not in (VARIANTS if build is vit else DEITS):
        pytest.skip("a ViT has no teacher")
    model = build(variant, **FLAT, attention_dropout=0.2, projection_dropout=0.3, dropout=0.4)
    blocks = getattr(model, "encoder", model).blocks
    rates = [(b.attention.attention_dropout.p, b.dropout.p, b.mlp.dropout.p) for b in blocks]
    assert rates == [(0.2, 0.3, 0.4)] * 2
    rates = [(b.attention.attention_dropout.p, b.dropout.p) for b in vit("Ti/16", **FLAT, dropout=0.4).blocks]
    assert rates == [(0.0, 0.4)] * 2


def test_an_attention_that_gives_nothing_in_training_leaves_the_perceptron():
    block = Block(12, heads=3, hidden=20, projection_dropout=1.0).train()
    z = torch.randn(2, 7, 12)
    assert torch.equal(block(z), block.mlp(block.mlp_norm(z)) + z)
    assert not torch.equal(block.eval()(z), block.mlp(block.mlp_norm(z)) + z)
