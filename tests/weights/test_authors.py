"""Weights as their authors name them: read by timm where it can, by the equations where nobody can, and back."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attention_notes.claims import close
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit
from attention_notes.weights import load_weights, to_layout
from tests.papers.pvt.foreign import PYRAMID, timms_pvt
from tests.papers.swin.foreign import WINDOWS, timms_swin
from tests.papers.vit.foreign import FLAT
from tests.weights.parity import CLASSES, logits, randomised

DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask")


def split(state):
    """Weights, and what follows from sizes."""
    derived = {name: tensor for name, tensor in state.items() if name.endswith(DERIVED)}
    return {name: tensor for name, tensor in state.items() if name not in derived}, derived


def arrays_of_jax():
    """The arrays of a ViT of width 26, two layers, 13 heads and 3 channels, as the authors' code shapes them."""
    c, h, d, hidden = 26, 13, 2, 19
    norm = {"scale": (c,), "bias": (c,)}
    attention = {name: {"kernel": (c, h, d), "bias": (h, d)} for name in ("query", "key", "value")}
    block = {
        "LayerNorm_0": norm,
        "MultiHeadDotProductAttention_1": attention | {"out": {"kernel": (h, d, c), "bias": (c,)}},
        "LayerNorm_2": norm,
        "MlpBlock_3": {
            "Dense_0": {"kernel": (c, hidden), "bias": (hidden,)},
            "Dense_1": {"kernel": (hidden, c), "bias": (c,)},
        },
    }
    tree = {
        "embedding": {"kernel": (2, 3, 3, c), "bias": (c,)},
        "cls": (1, 1, c),
        "Transformer": {
            "posembed_input": {"pos_embedding": (1, 36, c)},
            "encoder_norm": norm,
            "encoderblock_0": block,
            "encoderblock_1": block,
        },
        "head": {"kernel": (c, CLASSES), "bias": (CLASSES,)},
    }

    def flat(tree, prefix=""):
        for name, below in tree.items():
            if isinstance(below, dict):
                yield from flat(below, f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}", torch.randn(below) * 0.3

    return dict(flat(tree))


def test_arrays_of_the_authors_of_vit_give_the_logits_that_they_give_in_timm(tmp_path):
    from timm.models.vision_transformer import VisionTransformer

    arrays, x = arrays_of_jax(), torch.randn(2, 3, 10, 21)
    np.savez(tmp_path / "vit.npz", **{name: tensor.numpy() for name, tensor in arrays.items()})
    sizes = {"embed_dim": 26, "depth": 2, "num_heads": 13, "mlp_ratio": 19 / 26 + 1e-9, "num_classes": CLASSES}
    theirs = VisionTransformer(img_size=(10, 21), patch_size=(2, 3), **sizes).eval()
    theirs.load_pretrained(str(tmp_path / "vit.npz"))
    ours = vit("Ti/16", **FLAT | {"channels": 3}).eval()
    assert load_weights(ours, arrays) == "the authors"
    assert close(logits(ours, x), logits(theirs, x))
    back = to_layout(ours, "the authors")
    assert back.keys() == arrays.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in arrays.items())


@pytest.mark.parametrize(("variant", "version"), [("swin_t", 1), ("swinv2_t", 2)])
def test_timm_reads_what_we_write_as_the_authors_of_swin_do(variant, version):
    from timm.models import swin_transformer, swin_transformer_v2

    ours, theirs, x = randomised(swin(variant, **WINDOWS)), timms_swin(version), torch.randn(2, 5, 24, 60)
    state = to_layout(ours, "the authors")
    module = swin_transformer if version == 1 else swin_transformer_v2
    theirs.load_state_dict(module.checkpoint_filter_fn({"model": state}, theirs), strict=True)
    assert close(logits(ours, x), logits(theirs, x))
    other = swin(variant, **WINDOWS)
    assert load_weights(other, state) == "the authors"
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())


def pairs(window):
    """Each query of a window and each key, with their numbers and their places."""
    places = [(y, x) for y in range(window[0]) for x in range(window[1])]
    return [(q, k, *query, *key) for q, query in enumerate(places) for k, key in enumerate(places)]


def index_by_hand(window):
    """Offsets counted from the largest negative one, row by row."""
    index = torch.zeros(math.prod(window), math.prod(window), dtype=torch.int64)
    for q, k, qy, qx, ky, kx in pairs(window):
        index[q, k] = (qy - ky + window[0] - 1) * (2 * window[1] - 1) + (qx - kx + window[1] - 1)
    return index


def coordinates_by_hand(window, trained):
    """Each offset, in eighths of the largest in training, on a logarithmic scale."""
    table = torch.zeros(1, 2 * window[0] - 1, 2 * window[1] - 1, 2)
    for y in range(table.shape[1]):
        for x in range(table.shape[2]):
            for axis, offset in enumerate((y - window[0] + 1, x - window[1] + 1)):
                scaled = 8 * offset / (trained[axis] - 1)
                table[0, y, x, axis] = math.copysign(math.log(1 + abs(scaled), 8), scaled)
    return table


def mask_by_hand(grid, window, shift):
    """-100 for two tokens that were not in one window's reach before the map was rolled."""
    windows = [(top, left) for top in range(0, grid[0], window[0]) for left in range(0, grid[1], window[1])]
    mask = torch.zeros(len(windows), math.prod(window), math.prod(window))
    for number, (top, left) in enumerate(windows):
        for q, k, qy, qx, ky, kx in pairs(window):
            rolled = [(top + y + shift[0] >= grid[0], left + x + shift[1] >= grid[1]) for y, x in ((qy, qx), (ky, kx))]
            mask[number, q, k] = 0 if rolled[0] == rolled[1] else -100
    return mask


@pytest.mark.parametrize("variant", ["swin_t", "swinv2_t"])
def test_what_follows_from_sizes_is_what_a_hand_computes(variant):
    depths, grids, window = WINDOWS["depths"], ((12, 20), (6, 10), (3, 5)), (3, 5)
    expected = {}
    for i, grid in enumerate(grids):
        for j in range(depths[i]):
            expected[f"layers.{i}.blocks.{j}.attn.relative_position_index"] = index_by_hand(window)
            if variant == "swinv2_t":
                name = f"layers.{i}.blocks.{j}.attn.relative_coords_table"
                expected[name] = coordinates_by_hand(window, window)
            if j % 2 and i < 2:  # the last map is one window
                expected[f"layers.{i}.blocks.{j}.attn_mask"] = mask_by_hand(grid, window, (1, 2))
    _, derived = split(to_layout(swin(variant, **WINDOWS), "the authors"))
    assert derived.keys() == expected.keys()
    for name, tensor in expected.items():
        assert derived[name].dtype == tensor.dtype, name
        torch.testing.assert_close(derived[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_a_v2_in_larger_windows_keeps_the_scale_of_those_it_was_trained_in():
    model = swin("swinv2_t", **WINDOWS).resize((48, 120), window=(6, 10))
    _, derived = split(to_layout(model, "the authors"))
    for i in range(3):
        found = derived[f"layers.{i}.blocks.0.attn.relative_coords_table"]
        torch.testing.assert_close(found, coordinates_by_hand((6, 10), (3, 5)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("variant", "linear"), [("pvt_v2_b0", False), ("pvt_v2_b2_li", True)])
def test_timm_reads_what_we_write_as_the_authors_of_pvt_v2_do(variant, linear):
    from timm.models.pvt_v2 import checkpoint_filter_fn

    ours, theirs, x = randomised(pvt(variant, **PYRAMID)), timms_pvt(linear=linear), torch.randn(2, 5, 64, 96)
    state = to_layout(ours, "the authors")
    theirs.load_state_dict(checkpoint_filter_fn(state, theirs), strict=True)
    assert close(logits(ours, x), logits(theirs, x))
    other = pvt(variant, **PYRAMID)
    assert load_weights(other, state) == "the authors"
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())


def pvt_by_the_authors_names(state, x, *, heads, ratios, built):
    """Version 1 as its paper has it, from nothing but the names and shapes of the authors' tensors."""

    def linear(name, z):
        return F.linear(z, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, z, eps=1e-6):
        return F.layer_norm(z, z.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def convolved(name, z, stride):
        return F.conv2d(z, state[f"{name}.weight"], state[f"{name}.bias"], stride)

    for stage in range(1, 5):
        x = convolved(f"patch_embed{stage}.proj", x, 2 if stage > 1 else 4)
        (rows, columns), position = x.shape[2:], state[f"pos_embed{stage}"]
        z = norm(f"patch_embed{stage}.norm", x.flatten(2).mT, 1e-5)
        own = position[:, :1] if stage == 4 else position[:, :0]
        grid = [side // 2 ** (stage + 1) for side in built]
        picture = position[:, own.shape[1] :].mT.unflatten(2, grid)
        resized = F.interpolate(picture, (rows, columns), mode="bilinear").flatten(2).mT
        if stage == 4:
            z = torch.cat([state["cls_token"].expand(len(z), -1, -1), z], 1)
        z = z + torch.cat([own, resized], 1)
        depth = len({name.split(".")[1] for name in state if name.startswith(f"block{stage}.")})
        for block in (f"block{stage}.{j}" for j in range(depth)):
            y = norm(f"{block}.norm1", z)
            few, ratio = y, ratios[stage - 1]
            if ratio > 1:
                few = convolved(f"{block}.attn.sr", y.mT.unflatten(2, (rows, columns)), ratio)
                few = norm(f"{block}.attn.norm", few.flatten(2).mT, 1e-5)
            q, (k, v) = linear(f"{block}.attn.q", y), linear(f"{block}.attn.kv", few).chunk(2, -1)
            q, k, v = (part.unflatten(2, (heads[stage - 1], -1)).transpose(1, 2) for part in (q, k, v))
            mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
            z = z + linear(f"{block}.attn.proj", mixed.transpose(1, 2).flatten(2))
            z = z + linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", z))))
        if stage < 4:
            x = z.mT.unflatten(2, (rows, columns))
    return linear("head", norm("norm", z)[:, 0])


@pytest.mark.parametrize("image", [(64, 64), (96, 160)])
def test_the_authors_names_of_pvt_run_by_its_equations_give_our_logits_at_every_size(image):
    ours, x = randomised(pvt("pvt_tiny", **PYRAMID)), torch.randn(2, 5, *image)
    state = to_layout(ours, "the authors")
    by_name = pvt_by_the_authors_names(state, x, heads=PYRAMID["heads"], ratios=PYRAMID["ratios"], built=(64, 64))
    assert close(logits(ours, x), by_name)
    other = pvt("pvt_tiny", **PYRAMID)
    assert load_weights(other, state) == "the authors"
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
