"""The small models of this paper, and the same of timm."""

from functools import partial

from torch import nn

from attention_notes.papers.nest import nest
from tests.weights.parity import CHANNELS, CLASSES, Case, randomised

# 24 x 24 patches of 2 x 2 in 16 blocks of 6 x 6, then 4, then one
TREE = {"dims": (14, 22, 39), "depths": (1, 2, 3), "heads": (7, 11, 13), "patch": 2, "image_size": 48}
TREE |= {"channels": CHANNELS, "num_classes": CLASSES}


def timms_nest(pad_type: str = "same") -> nn.Module:
    from timm.models.nest import Nest

    sizes = {"embed_dims": TREE["dims"], "depths": TREE["depths"], "num_heads": TREE["heads"], "img_size": 48}
    return randomised(Nest(patch_size=2, in_chans=CHANNELS, num_classes=CLASSES, pad_type=pad_type, **sizes))


CASES = {"nest timm": Case(partial(nest, "nest_t", **TREE), timms_nest, "timm", (48, 48))}
LAYOUTS = {"nest": {"timm"}}
