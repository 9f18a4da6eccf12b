"""Small models for the suite over all models."""

from functools import partial

from torch import nn

from attention_notes.nn.initialise import truncated_normal
from attention_notes.papers.deit import DistilledVisionTransformer, TwoTokens
from attention_notes.papers.early_conv import ConvStem, early_conv
from attention_notes.papers.swin import Swin
from attention_notes.papers.vit import MeanPooling, PatchEmbedding
from tests.contract import Case, images

STEM = partial(ConvStem, widths=(6, 8), strides=(2, 7), kernels=(3, 7))
TINY = {"dim": 30, "depth": 2, "heads": 3, "hidden": 44, "num_classes": 5, "image_size": (28, 42)}


def _before_deit() -> nn.Module:
    options = {name: value for name, value in TINY.items() if name != "num_classes"}
    encoder = early_conv("C-1GF", stem=STEM, pooling=TwoTokens, num_classes=None, **options)
    model = DistilledVisionTransformer(encoder, num_classes=5)
    truncated_normal(model.class_head)  # as ``deit`` does
    truncated_normal(model.distillation_head)
    return model


def _before_swin() -> nn.Module:
    stem = ConvStem(12, image_size=(28, 42), widths=(8,), strides=(2,))
    return Swin(stem, depths=(1, 2), heads=(2, 3), window=5, num_classes=5)


MODELS = {
    "early_conv": Case(partial(early_conv, "C-1GF", stem=STEM, **TINY), images),
    "early_conv pooled, without statistics": Case(
        partial(
            early_conv,
            "C-1GF",
            stem=partial(ConvStem, widths=(6, 8), strides=(2, 7), kernels=(5, 7), norm=partial(nn.GroupNorm, 2)),
            pooling=MeanPooling,
            drop_path=0.1,
            **TINY,
        ),
        images,
    ),
    "early_conv of patches": Case(
        partial(early_conv, "P-1GF", stem=partial(PatchEmbedding, patch=(7, 14)), **TINY), images
    ),
    "early_conv before deit": Case(_before_deit, images),
    "early_conv before swin": Case(_before_swin, images),
}
