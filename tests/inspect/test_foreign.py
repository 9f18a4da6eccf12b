"""Models of other libraries look where ours look with the same weights; and what cannot be placed says why."""

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_notes.inspect import record_attention
from attention_notes.inspect.attention_maps import Layer, Seen, see
from attention_notes.papers.vit import vit
from attention_notes.weights import load_weights
from tests.papers.swin.foreign import timms_swin
from tests.papers.vit.foreign import FLAT, huggings_vit, timms_vit
from tests.weights.cases import CASES
from tests.weights.parity import CHANNELS, CLASSES, randomised

PLACED = {name: case for name, case in CASES.items() if name.startswith(("vit", "deit", "swin"))}


def assert_same(theirs: Seen, ours: Seen, x: Tensor) -> None:
    """The same maps, of places from corner to corner and of every extra token, and the same rollouts."""
    assert len(theirs.layers) == len(ours.layers)
    (y, w), names = x.shape[2:], next(iter(ours.layers.values())).placed.names
    ats = [(0, 0), (y - 1, w - 1), (y - 1, 0), (y // 2, w // 3), (y // 3, w - 2), *names]
    for other, layer in zip(theirs.layers.values(), ours.layers.values(), strict=True):
        assert other.placed.names == layer.placed.names
        for at in ats:
            found, expected = other.map(at), layer.map(at)
            for part in ("places", "extra", "padding"):
                torch.testing.assert_close(getattr(found, part), getattr(expected, part), atol=1e-5, rtol=0)
    for at in (None, *ats):
        found, expected = theirs.rollout(at), ours.rollout(at)
        torch.testing.assert_close(found.over_image(), expected.over_image(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PLACED)
def test_others_models_look_where_ours_look_with_the_same_weights(name):
    case = PLACED[name]
    ours, theirs, x = case.ours().eval(), case.theirs(), case.images()
    load_weights(ours, theirs.state_dict())
    assert_same(see(theirs, x), see(ours, x), x)


@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_attention_that_is_written_out_is_seen_like_the_fused_one(kind):
    """timm with its fused attention off, and the eager attention of transformers."""
    for model in (timms_vit(kind), huggings_vit(kind)):
        x = torch.randn(2, CHANNELS, 10, 21)
        fused = see(model, x)
        if hasattr(model, "set_attn_implementation"):
            model.set_attn_implementation("eager")
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        assert_same(see(model, x), fused, x)


def test_vit_pytorch_is_recorded_and_what_is_missing_is_named():
    from vit_pytorch import ViT

    model = ViT(image_size=14, patch_size=7, num_classes=3, dim=12, depth=2, heads=3, dim_head=4, mlp_dim=8).eval()
    seen = see(model, torch.randn(2, 3, 14, 14))
    assert [layer.weights.shape for layer in seen.layers.values()] == [(2, 3, 5, 5)] * 2
    kind = r"nothing is known of where a vit_pytorch\.vit\.Attention has its tokens; register it with places_of"
    for layer in seen.layers.values():
        with pytest.raises(ValueError, match=f"was recorded, but has no map over an image: {kind}"):
            layer.map((0, 0))


def test_registers_have_names_of_their_own_in_timm_and_here():
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": (10, 21), "patch_size": (2, 3), "in_chans": CHANNELS, "num_classes": CLASSES}
    sizes |= {"embed_dim": 26, "depth": 2, "num_heads": 13, "mlp_ratio": 19 / 26 + 1e-9}
    x = torch.randn(2, CHANNELS, 10, 21)
    theirs = randomised(VisionTransformer(**sizes, reg_tokens=3, no_embed_class=True))
    ours = vit("Ti/16", registers=3, class_position=False, **FLAT).eval()
    load_weights(ours, theirs.state_dict())
    a, b = see(theirs, x), see(ours, x)
    layer = b.layers["blocks.0.attention"]
    assert layer.placed.names == ("class", "register 1", "register 2", "register 3")
    assert_same(a, b, x)
    with pytest.raises(ValueError, match=r"no token 'distillation' here: known are \('class', 'register 1'"):
        layer.map("distillation")
    pooled = randomised(VisionTransformer(**sizes, reg_tokens=1, class_token=False, global_pool="avg"))
    seen = see(pooled, x).layers["blocks.0.attn"]
    assert seen.placed.names == ("register 1",)
    with pytest.raises(ValueError, match="no token 'class' here"):
        seen.map("class")


# Grids of 17 x 22 and 9 x 11 in windows of 3 x 5, 4 x 3 and 20: padded, shifted before that; one larger than the map.
@pytest.mark.parametrize("window", [(3, 5), (4, 3), 20])
@pytest.mark.parametrize("version", [1, 2])
def test_padded_windows_of_timm_are_where_its_gradients_come_from(version, window):
    model = timms_swin(version, img_size=(34, 66), window_size=window)
    x = torch.randn(1, CHANNELS, 34, 66)
    seen, given = see(model, x), {}
    for i, stage in enumerate(model.layers[:2]):
        for j, block in enumerate(stage.blocks[:2]):
            block.register_forward_pre_hook(partial(keep, given, (i, j)))
    model(x)
    for (i, j), tokens in given.items():
        layer, cell = seen.layers[f"layers.{i}.blocks.{j}.attn"], (2 * 2**i, 3 * 2**i)
        for row, column in ((0, 0), (tokens.shape[1] - 1, tokens.shape[2] - 1), (4, 2), (2, 7)):
            leaf = tokens.detach().clone().requires_grad_()
            model.layers[i].blocks[j]._attn(leaf)[:, row, column].square().sum().backward()
            looked_at = layer.map((row * cell[0], column * cell[1])).places.amax(1)
            assert torch.equal(leaf.grad.abs().sum(-1) > 1e-20, looked_at > 1e-20), (i, j, row, column)


def keep(given: dict, name: tuple[int, int], _: nn.Module, args: tuple[Tensor, ...]) -> None:
    given[name] = args[0]


def test_torchvisions_windows_that_are_larger_than_the_map_are_padded_and_not_shifted():
    from torchvision.models.swin_transformer import SwinTransformer

    model = randomised(SwinTransformer([2, 3], 30, [2, 2], [3, 5], [7, 5], num_classes=CLASSES))
    x, given = torch.randn(1, 3, 20, 27), {}
    seen = see(model, x)
    for name, module in model.named_modules():
        if f"{name}" in seen.layers:
            module.register_forward_pre_hook(partial(keep, given, name))
    model(x)
    assert [tokens.shape[1:3] for tokens in given.values()] == [(10, 9), (10, 9), (5, 5), (5, 5)]
    for name, tokens in given.items():
        side = 1 if tokens.shape[1] == 10 else 2
        for row, column in ((0, 0), (tokens.shape[1] - 1, tokens.shape[2] - 1), (4, 2)):
            leaf = tokens.detach().clone().requires_grad_()
            model.get_submodule(name)(leaf)[:, row, column].square().sum().backward()
            looked_at = seen.layers[name].map((row * 2 * side, column * 3 * side)).places.amax(1)
            assert torch.equal(leaf.grad.abs().sum(-1) > 1e-20, looked_at > 1e-20), (name, row, column)


class Cut(nn.Module):
    """A model that loses tokens before its attention, adds some of which nothing is known, or resizes its images."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.model = how, timms_vit("vit")

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.model.patch_embed(x if self.how != "resized" else F.interpolate(x, (10, 21)))
        if self.how == "fewer":
            tokens = tokens[:, :-1]
        if self.how == "more":
            tokens = torch.cat([tokens, tokens[:, :4]], 1)
        return self.model.blocks(tokens)


REASONS = {
    "fewer": r"a Attention was given torch.Size\(\[2, 34, 26\]\), no tokens of a map of \(5, 7\)",
    "more": r"nobody says what the 4 tokens are that a Attention has in front of a map of \(5, 7\)",
    "resized": r"a Conv2d was given \(2, 5, 10, 21\), not the map of \(20, 42\) before it",
}


@pytest.mark.parametrize("how", REASONS)
def test_what_was_lost_on_the_way_is_named(how):
    seen = see(Cut(how), torch.randn(2, CHANNELS, *((20, 42) if how == "resized" else (10, 21))))
    layer = seen.layers["model.blocks.0.attn"]
    with pytest.raises(ValueError, match=f"was recorded, but has no map over an image: {REASONS[how]}"):
        layer.map((0, 0))
    assert isinstance(layer, Layer)


def test_what_is_no_image_is_named():
    layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
    seen = see(layer, torch.randn(2, 5, 12))
    with pytest.raises(ValueError, match=r"given \(2, 5, 12\), and an image is b ch y x; its weights, \(2, 2, 5, 5\)"):
        seen.layers["self_attn"].map((0, 0))


def test_other_libraries_are_not_imported():
    """In a process of its own: the tests import them."""
    code = (
        "import sys, torch; from attention_notes.inspect.attention_maps import see; "
        "from attention_notes.papers.vit import vit; see(vit('Ti/16', depth=1), torch.randn(1, 3, 224, 224)); "
        "print([name for name in ('timm', 'transformers', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_recording_does_not_change_what_others_compute():
    for model in (timms_vit("vit"), huggings_vit("vit"), timms_swin(1)):
        x = torch.randn(2, CHANNELS, *((24, 60) if hasattr(model, "layers") else (10, 21)))
        before = model(x)
        with record_attention(model):
            during = model(x)
        assert torch.equal(getattr(before, "logits", before), getattr(during, "logits", during))
