"""The small models of this paper, and the same of every library that has them."""

import re
from functools import partial
from typing import Any

from torch import nn

from attention_notes.papers.pvt import pvt
from tests.weights.parity import CHANNELS, CLASSES, Case, randomised

PYRAMID = {"dims": (14, 22, 39, 34), "depths": (1, 2, 1, 2), "heads": (7, 11, 13, 17), "ratios": (3, 2, 2, 1)}
PYRAMID |= {"expansions": (3, 2, 5, 4), "channels": CHANNELS, "num_classes": CLASSES, "image_size": (64, 64)}


def timms_pvt(*, linear: bool) -> nn.Module:
    from timm.models.pvt_v2 import PyramidVisionTransformerV2

    sizes = {"embed_dims": PYRAMID["dims"], "depths": PYRAMID["depths"], "num_heads": PYRAMID["heads"]}
    sizes |= {"sr_ratios": PYRAMID["ratios"], "mlp_ratios": PYRAMID["expansions"]}
    return randomised(PyramidVisionTransformerV2(in_chans=CHANNELS, num_classes=CLASSES, linear=linear, **sizes))


def with_the_authors_norms(model: nn.Module) -> nn.Module:
    """transformers has an epsilon of 1e-6 everywhere in PVT; the authors have 1e-5 after convolutions."""
    for name, module in model.named_modules():
        if re.search(r"(patch_embeddings?(\.\d)?|self|attention)\.layer_norm$", name):
            module.eps = 1e-5
    return model


def huggings_pvt(version: int, **options: Any) -> nn.Module:
    import transformers

    sizes = {"hidden_sizes": PYRAMID["dims"], "depths": PYRAMID["depths"], "num_attention_heads": PYRAMID["heads"]}
    sizes |= {"mlp_ratios": PYRAMID["expansions"], "num_channels": CHANNELS, "num_labels": CLASSES, "image_size": 64}
    if version == 1:
        config = transformers.PvtConfig(**sizes, sequence_reduction_ratios=PYRAMID["ratios"])
        model: nn.Module = transformers.PvtForImageClassification(config)
    else:
        config = transformers.PvtV2Config(**sizes, sr_ratios=PYRAMID["ratios"], **options)
        model = transformers.PvtV2ForImageClassification(config)
    return with_the_authors_norms(randomised(model))


CASES = {
    "pvt transformers": Case(partial(pvt, "pvt_tiny", **PYRAMID), partial(huggings_pvt, 1), "transformers", (64, 64)),
    "pvt_v2 timm": Case(partial(pvt, "pvt_v2_b0", **PYRAMID), partial(timms_pvt, linear=False), "timm", (64, 64)),
    "pvt_v2 transformers": Case(
        partial(pvt, "pvt_v2_b0", **PYRAMID), partial(huggings_pvt, 2), "transformers", (64, 64)
    ),
    "pvt_v2_li timm": Case(partial(pvt, "pvt_v2_b2_li", **PYRAMID), partial(timms_pvt, linear=True), "timm", (64, 64)),
    "pvt_v2_li transformers": Case(
        partial(pvt, "pvt_v2_b2_li", **PYRAMID),
        partial(huggings_pvt, 2, linear_attention=True),
        "transformers",
        (64, 64),
    ),
}
LAYOUTS = {
    "pvt": {"transformers", "transformers, without its head", "the authors"},
    "pvt_v2": {"timm", "transformers", "transformers, without its head", "the authors"},
    "pvt_v2_li": {"timm", "transformers", "transformers, without its head", "the authors"},
}
