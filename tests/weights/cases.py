"""Small models of every family, and the same of every library that has it, with random weights."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attention_notes.papers.deit import deit
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit

CLASSES, CHANNELS = 23, 5


@dataclass(frozen=True)
class Case:
    """How to build one of ours and the same of somebody else, whose tensors, as loaded, are of this layout."""

    ours: Callable[..., Any]
    theirs: Callable[[], nn.Module]
    layout: str
    image: tuple[int, int]
    channels: int = CHANNELS

    def images(self) -> Tensor:
        return torch.randn(2, self.channels, *self.image)


def randomised(model: nn.Module) -> Any:
    """Random where models start at zero or one, too: a parity on such values shows nothing."""
    for name, parameter in model.named_parameters():
        if "logit_scale" in name:
            nn.init.normal_(parameter, mean=1.0, std=0.3)
        elif parameter.ndim == 1 or re.search("pos|token|table", name):
            nn.init.normal_(parameter, mean=0.7 if "norm" in name else 0.1, std=0.3)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        out = model(images)
    return getattr(out, "logits", out)


# every dimension another prime: patches of 2 x 3 in a grid of 5 x 7
FLAT = {"dim": 26, "depth": 2, "heads": 13, "hidden": 19, "patch": (2, 3), "image_size": (10, 21)}
FLAT |= {"channels": CHANNELS, "num_classes": CLASSES}
SQUARE = FLAT | {"patch": 5, "image_size": 35, "channels": 3}  # what torchvision can be built for


def timms_vit(kind: str) -> nn.Module:
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": (10, 21), "patch_size": (2, 3), "in_chans": CHANNELS, "num_classes": CLASSES}
    sizes |= {"embed_dim": 26, "depth": 2, "num_heads": 13, "mlp_ratio": 19 / 26 + 1e-9}
    return randomised((VisionTransformerDistilled if kind == "deit" else VisionTransformer)(**sizes))


def torchvisions_vit() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    return randomised(VisionTransformer(35, 5, 2, 13, 26, 19, num_classes=CLASSES))


def huggings_vit(kind: str) -> nn.Module:
    import transformers

    config, model = {
        "vit": (transformers.ViTConfig, transformers.ViTForImageClassification),
        "deit": (transformers.DeiTConfig, transformers.DeiTForImageClassificationWithTeacher),
    }[kind]
    sizes = {"image_size": (10, 21), "patch_size": (2, 3), "num_channels": CHANNELS, "num_labels": CLASSES}
    sizes |= {"hidden_size": 26, "num_hidden_layers": 2, "num_attention_heads": 13, "intermediate_size": 19}
    return randomised(model(config(**sizes, layer_norm_eps=1e-6)))


# windows of 3 x 5 tile 12 x 20 patches and 6 x 10, shifted in the second block; 3 x 5 is one window
STAGES = {"dim": 30, "depths": (2, 3, 2), "heads": (3, 5, 2)}
WINDOWS = STAGES | {"patch": (2, 3), "window": (3, 5), "image_size": (24, 60)}
WINDOWS |= {"channels": CHANNELS, "num_classes": CLASSES}
RAGGED = WINDOWS | {"window": 3, "image_size": (34, 66)}  # transformers has square windows only; here maps are padded
COLOUR = WINDOWS | {"channels": 3}


def timms_swin(version: int, **options: Any) -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    sizes = {"img_size": (24, 60), "patch_size": (2, 3), "window_size": (3, 5), "in_chans": CHANNELS}
    sizes |= {"embed_dim": 30, "depths": (2, 3, 2), "num_heads": (3, 5, 2), "num_classes": CLASSES}
    return randomised((SwinTransformer if version == 1 else SwinTransformerV2)(**sizes | options))


def torchvisions_swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return randomised(SwinTransformer([2, 3], 30, [2, 3, 2], [3, 5, 2], [3, 5], num_classes=CLASSES))


def huggings_swin(version: int) -> nn.Module:
    import transformers

    config = transformers.SwinConfig if version == 1 else transformers.Swinv2Config
    model = transformers.SwinForImageClassification if version == 1 else transformers.Swinv2ForImageClassification
    sizes = {"image_size": (34, 66), "patch_size": (2, 3), "num_channels": CHANNELS, "num_labels": CLASSES}
    sizes |= {"embed_dim": 30, "depths": (2, 3, 2), "num_heads": (3, 5, 2), "window_size": 3}
    return randomised(model(config(**sizes)))


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


_vit, _deit = partial(vit, "Ti/16"), partial(deit, "Ti/16 distilled")
_swin, _swinv2 = partial(swin, "swin_t"), partial(swin, "swinv2_t")
LOADED = "transformers, as loaded"
CASES = {
    "vit timm": Case(partial(_vit, **FLAT), partial(timms_vit, "vit"), "timm", (10, 21)),
    "vit torchvision": Case(partial(_vit, **SQUARE), torchvisions_vit, "torchvision, as loaded", (35, 35), 3),
    "vit transformers": Case(partial(_vit, **FLAT), partial(huggings_vit, "vit"), LOADED, (10, 21)),
    "deit timm": Case(partial(_deit, **FLAT), partial(timms_vit, "deit"), "timm", (10, 21)),
    "deit transformers": Case(partial(_deit, **FLAT), partial(huggings_vit, "deit"), LOADED, (10, 21)),
    "swin timm": Case(partial(_swin, **WINDOWS), partial(timms_swin, 1), "timm", (24, 60)),
    "swin torchvision": Case(partial(_swin, **COLOUR), torchvisions_swin, "torchvision", (24, 60), 3),
    "swin transformers": Case(partial(_swin, **RAGGED), partial(huggings_swin, 1), LOADED, (34, 66)),
    "swinv2 timm": Case(partial(_swinv2, **WINDOWS), partial(timms_swin, 2), "timm", (24, 60)),
    "swinv2 transformers": Case(partial(_swinv2, **RAGGED), partial(huggings_swin, 2), "transformers", (34, 66)),
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
# the first of each family: what is asked of every layout
MODELS = {name.split()[0]: case.ours for name, case in reversed(CASES.items())}
