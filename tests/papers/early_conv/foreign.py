"""The small models of this paper, and the same of torchvision."""

from functools import partial

from torch import nn

from attention_notes.papers.early_conv import ConvStem, early_conv
from tests.weights.parity import CLASSES, Case, randomised

# strides of 2, 1 and 5 make a grid of 4 x 4 from 40 pixels; every width another one
STEM = {"widths": (11, 5, 7), "strides": (2, 1, 5)}
SIZES = {"dim": 26, "depth": 2, "heads": 13, "hidden": 19, "image_size": 40, "num_classes": CLASSES}


def torchvisions() -> nn.Module:
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    stem = [ConvStemConfig(width, 3, stride) for width, stride in zip(*STEM.values(), strict=True)]
    model = randomised(VisionTransformer(40, 10, 2, 13, 26, 19, num_classes=CLASSES, conv_stem_configs=stem))
    for name, buffer in model.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


CASES = {
    "early_conv torchvision": Case(
        partial(early_conv, "C-1GF", stem=partial(ConvStem, **STEM), **SIZES),
        torchvisions,
        "torchvision, as loaded",
        (40, 40),
        3,
    )
}
LAYOUTS = {"early_conv": {"torchvision", "torchvision, as loaded"}}
