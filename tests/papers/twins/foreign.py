"""The small models of this paper, and the same of timm."""

from functools import partial

from torch import nn

from attention_notes.papers.twins import twins
from tests.weights.parity import CHANNELS, CLASSES, Case, randomised

# windows of 3 tokens do not tile maps of 16 x 24, 8 x 12, 4 x 6 and 2 x 3
PYRAMID = {"dims": (14, 22, 39, 34), "depths": (1, 2, 3, 2), "heads": (7, 11, 13, 17), "ratios": (4, 2, 2, 1)}
PYRAMID |= {"expansions": (3, 2, 5, 4), "windows": (3, 5, 3, 2), "channels": CHANNELS, "num_classes": CLASSES}


def timms_twins(*, local: bool) -> nn.Module:
    from timm.models.twins import Twins

    sizes = {"embed_dims": PYRAMID["dims"], "depths": PYRAMID["depths"], "num_heads": PYRAMID["heads"]}
    sizes |= {"sr_ratios": PYRAMID["ratios"], "mlp_ratios": PYRAMID["expansions"], "img_size": (64, 96)}
    windows = PYRAMID["windows"] if local else None
    return randomised(Twins(patch_size=4, in_chans=CHANNELS, num_classes=CLASSES, wss=windows, **sizes))


CASES = {
    "twins_pcpvt timm": Case(
        partial(twins, "twins_pcpvt_small", **PYRAMID), partial(timms_twins, local=False), "timm", (64, 96)
    ),
    "twins_svt timm": Case(
        partial(twins, "twins_svt_small", **PYRAMID), partial(timms_twins, local=True), "timm", (64, 96)
    ),
}
LAYOUTS = {"twins_pcpvt": {"timm"}, "twins_svt": {"timm"}}
