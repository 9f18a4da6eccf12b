"""The small models of this paper, and the same of timm."""

from functools import partial

from torch import nn

from attention_notes.papers.cait import cait
from tests.papers.vit.foreign import FLAT
from tests.weights.parity import CHANNELS, CLASSES, Case, randomised


def timms_cait() -> nn.Module:
    from timm.models.cait import Cait

    sizes = {"img_size": (10, 21), "patch_size": (2, 3), "in_chans": CHANNELS, "num_classes": CLASSES}
    sizes |= {"embed_dim": 26, "depth": 2, "num_heads": 13, "mlp_ratio": 19 / 26 + 1e-9}
    return randomised(Cait(**sizes, mlp_ratio_token_only=19 / 26 + 1e-9))


CASES = {"cait timm": Case(partial(cait, "XXS24", **FLAT), timms_cait, "timm", (10, 21))}
LAYOUTS = {"cait": {"timm"}}
