"""The small models of this paper, and the same of torchvision."""

from functools import partial

from torch import nn

from attention_notes.papers.early_conv import ConvStem, early_conv
from tests.weights.parity import CLASSES, Case, randomised

# strides of 2, 1 and 3 make a grid of 7 x 7 from 42 pixels; every width another one
STEM = {"widths": (11, 5, 7), "strides": (2, 1, 3)}
SIZES = {"dim": 26, "depth": 2, "heads": 13, "hidden": 19, "image_size": 42, "num_classes": CLASSES}


def torchvisions() -> nn.Module:
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    stem = [ConvStemConfig(width, 3, stride) for width, stride in zip(*STEM.values(), strict=True)]
    model = randomised(VisionTransformer(42, 6, 2, 13, 26, 19, num_classes=CLASSES, conv_stem_configs=stem))
    for name, buffer in model.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


CASES = {
    "early_conv torchvision": Case(
        partial(early_conv, "C-1GF", stem=partial(ConvStem, **STEM), **SIZES),
        torchvisions,
        "torchvision, as loaded",
        (42, 42),
        3,
    )
}
LAYOUTS = {"early_conv": {"torchvision", "torchvision, as loaded"}}
