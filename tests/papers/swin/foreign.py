"""The small models of this paper, and the same of every library that has them."""

from functools import partial
from typing import Any

from torch import nn

from attention_notes.papers.swin import swin
from tests.weights.parity import CHANNELS, CLASSES, LOADED, Case, randomised

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


_swin, _swinv2 = partial(swin, "swin_t"), partial(swin, "swinv2_t")
CASES = {
    "swin timm": Case(partial(_swin, **WINDOWS), partial(timms_swin, 1), "timm", (24, 60)),
    "swin torchvision": Case(partial(_swin, **COLOUR), torchvisions_swin, "torchvision", (24, 60), 3),
    "swin transformers": Case(partial(_swin, **RAGGED), partial(huggings_swin, 1), LOADED, (34, 66)),
    "swinv2 timm": Case(partial(_swinv2, **WINDOWS), partial(timms_swin, 2), "timm", (24, 60)),
    "swinv2 transformers": Case(partial(_swinv2, **RAGGED), partial(huggings_swin, 2), "transformers", (34, 66)),
}
LAYOUTS = {
    "swin": {
        "timm",
        "transformers",
        "transformers, without its head",
        "transformers, as loaded",
        "transformers, as loaded, without its head",
        "torchvision",
        "the authors",
    },
    "swinv2": {"timm", "transformers", "transformers, without its head", "the authors"},
}
