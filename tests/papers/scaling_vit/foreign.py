"""The small models of this paper, and the same of timm."""

from functools import partial

from torch import nn

from attention_notes.papers.scaling_vit import scaling_vit
from tests.papers.vit.foreign import FLAT
from tests.weights.parity import CHANNELS, CLASSES, Case, randomised


def timms(**options) -> nn.Module:
    """timm's ViT with a MAP head, every dimension another prime."""
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": (10, 21), "patch_size": (2, 3), "in_chans": CHANNELS, "num_classes": CLASSES}
    sizes |= {"embed_dim": 26, "depth": 2, "num_heads": 13, "mlp_ratio": 19 / 26 + 1e-9}
    return randomised(VisionTransformer(**sizes, global_pool="map", class_token=False, **options))


def timms_22b() -> nn.Module:
    from timm.models.vision_transformer import ParallelScalingBlock

    norm = partial(nn.LayerNorm, eps=1e-6, bias=False)
    return timms(block_fn=ParallelScalingBlock, qkv_bias=False, qk_norm=True, norm_layer=norm)


CASES = {
    "scaling_vit timm": Case(partial(scaling_vit, "G/14", **FLAT), timms, "timm", (10, 21)),
    "scaling_vit timm, in parallel": Case(partial(scaling_vit, "22B/14", **FLAT), timms_22b, "timm", (10, 21)),
}
LAYOUTS = {"scaling_vit": {"timm"}}
