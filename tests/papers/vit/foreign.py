"""The small models of this paper, and the same of every library that has them."""

from functools import partial

from torch import nn

from attention_notes.papers.vit import vit
from tests.weights.parity import CHANNELS, CLASSES, LOADED, Case, randomised

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


_vit = partial(vit, "Ti/16")
CASES = {
    "vit timm": Case(partial(_vit, **FLAT), partial(timms_vit, "vit"), "timm", (10, 21)),
    "vit torchvision": Case(partial(_vit, **SQUARE), torchvisions_vit, "torchvision, as loaded", (35, 35), 3),
    "vit transformers": Case(partial(_vit, **FLAT), partial(huggings_vit, "vit"), LOADED, (10, 21)),
}
LAYOUTS = {
    "vit": {
        "timm",
        "transformers",
        "transformers, as loaded",
        "transformers, without its head",
        "transformers, as loaded, without its head",
        "torchvision",
        "torchvision, as loaded",
        "the authors",
    }
}
