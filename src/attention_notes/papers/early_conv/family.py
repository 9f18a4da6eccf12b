"""ViT_C and ViT_P, beside torchvision's."""

from torch import nn

from attention_notes.papers import Family, Reference
from attention_notes.papers.early_conv.model import VARIANTS, early_conv


def _reference(variant: str) -> Reference:
    row = VARIANTS[variant]

    def build() -> nn.Module:
        from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

        told = row["stem"].keywords
        stem = None
        if widths := told.get("widths"):
            strides = told.get("strides", (2,) * len(widths))
            stem = [ConvStemConfig(width, 3, stride) for width, stride in zip(widths, strides, strict=True)]
        sizes = (row[name] for name in ("depth", "heads", "dim", "hidden"))
        return VisionTransformer(224, 16, *sizes, conv_stem_configs=stem)

    return Reference("torchvision", "torchvision, as loaded", build)


FAMILY = Family(early_conv, VARIANTS, _reference)
