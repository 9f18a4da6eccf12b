"""The small model of this paper, and the same of timm."""

from functools import partial

from torch import nn

from attention_notes.papers.tnt import tnt
from tests.weights.parity import CHANNELS, CLASSES, Case, randomised

# patches of 4 x 6 in a grid of 3 x 7, words of 2 x 2, six in a patch
FLAT = {"dim": 26, "depth": 2, "heads": 13, "hidden": 19, "patch": (4, 6), "image_size": (12, 42)}
FLAT |= {"word": 2, "word_dim": 10, "word_heads": 5, "channels": CHANNELS, "num_classes": CLASSES}


def timms_tnt(**overrides) -> nn.Module:
    from timm.models.tnt import TNT

    sizes = {"img_size": (12, 42), "patch_size": (4, 6), "in_chans": CHANNELS, "num_classes": CLASSES}
    sizes |= {"embed_dim": 26, "depth": 2, "num_heads_outer": 13, "mlp_ratio": 19 / 26 + 1e-9}
    sizes |= {"inner_dim": 10, "num_heads_inner": 5, "first_stride": 2, **overrides}
    return randomised(TNT(**sizes))


CASES = {"tnt timm": Case(partial(tnt, "tnt_s", **FLAT), timms_tnt, "timm", (12, 42))}
LAYOUTS = {"tnt": {"timm", "the authors"}}
