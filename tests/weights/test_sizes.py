"""Weights at another size than they were trained at, as the references have them there.

ViT and DeiT at other image sizes, and V2 of Swin in other windows, are held to timm in ``tests/papers``; version 1 of
PVT is held to its equations in ``test_authors``.
"""

import pytest
import torch

from attention_notes.claims import close
from attention_notes.papers.swin import swin
from attention_notes.weights import load_weights, to_layout, to_timm
from tests.papers.swin.foreign import WINDOWS, timms_swin
from tests.weights.parity import logits, randomised

TABLE = "relative_position_bias_table"


@pytest.mark.parametrize(("image", "window"), [((40, 120), 5), ((80, 60), 5), ((16, 24), 2)])
def test_a_swin_moved_to_other_windows_equals_timms_with_bicubic_tables(image, window):
    """The authors' way, which timm keeps as ``resize_rel_pos_bias_table_simple``.

    Where windows do not tile a map, timm shifts first and pads then; here, in torchvision and transformers it is padded
    first, so these sizes are tiled.
    """
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple

    theirs = timms_swin(1, img_size=image, window_size=window)
    ours = randomised(swin("swin_t", **WINDOWS | {"image_size": (48, 72), "window": 3}))
    state = to_timm(ours)
    for name, tensor in theirs.state_dict().items():
        if name.endswith(TABLE):
            state[name] = resize_rel_pos_bias_table_simple(state[name], (window, window), tensor.shape)
            assert state[name].shape == tensor.shape
    theirs.load_state_dict(state, strict=True)
    x = torch.randn(2, 5, *image)
    assert close(logits(ours.resize(image, window=window), x), logits(theirs, x))


@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple")
def test_timm_itself_loads_tables_of_other_windows_otherwise():
    """Not bicubic, but on a grid that is finer in the middle; the day this changes, this fails."""
    from timm.models.swin_transformer import checkpoint_filter_fn

    theirs = timms_swin(1, img_size=(40, 120), window_size=5)
    ours = randomised(swin("swin_t", **WINDOWS | {"image_size": (48, 72), "window": 3}))
    filtered = checkpoint_filter_fn(to_timm(ours), theirs)
    resized = to_timm(ours.resize((40, 120), window=5))
    apart = [name for name in resized if not close(filtered[name], resized[name])]
    assert apart == [name for name in resized if name.endswith(TABLE)]


@pytest.mark.parametrize("layout", ["timm", "the authors"])
def test_a_v2_loaded_in_small_windows_and_then_moved_is_one_loaded_in_large_windows_by_timm(layout):
    trained = randomised(swin("swinv2_t", **WINDOWS))
    ours = swin("swinv2_t", **WINDOWS).eval()
    load_weights(ours, to_layout(trained, layout))
    ours.resize((48, 120), window=(6, 10))
    theirs = timms_swin(2, img_size=(48, 120), window_size=(6, 10), pretrained_window_sizes=((3, 5),) * 3)
    theirs.load_state_dict(to_timm(trained), strict=True)
    x = torch.randn(2, 5, 48, 120)
    assert close(logits(ours, x), logits(theirs, x))


def test_weights_of_a_tuned_v2_load_into_a_model_that_was_moved_alike():
    """Such are the authors' files for windows of 16 and 24: the offsets in them are on the scale of the training."""
    tuned = randomised(swin("swinv2_t", **WINDOWS).resize((48, 120), window=(6, 10)))
    state = to_layout(tuned, "the authors")
    ours = swin("swinv2_t", **WINDOWS).resize((48, 120), window=(6, 10)).eval()
    assert load_weights(ours, state) == "the authors"
    x = torch.randn(2, 5, 48, 120)
    assert torch.equal(logits(ours, x), logits(tuned, x))
    plain = swin("swinv2_t", **WINDOWS | {"image_size": (48, 120), "window": (6, 10)})
    with pytest.raises(ValueError, match="relative_coords_table of shape"):
        load_weights(plain, state)
