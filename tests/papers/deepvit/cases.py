"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.deepvit import ReAttention, deepvit
from attention_notes.papers.early_conv import ConvStem
from attention_notes.papers.vit import MeanPooling, PatchEmbedding
from tests.contract import Case, images

TINY = {"dim": 30, "depth": 2, "heads": 3, "hidden": 44, "num_classes": 5, "image_size": (28, 42)}
PATCHES = partial(PatchEmbedding, patch=(7, 14))
STEM = partial(ConvStem, widths=(6, 8), strides=(2, 7), kernels=(3, 7))
PARTS = {"attention": partial(ReAttention, scale=0.5), "reattention_depth": 1, "pooling": MeanPooling}
MODELS = {
    "deepvit": Case(partial(deepvit, "16", stem=PATCHES, **TINY), images),
    "deepvit in the last layer": Case(partial(deepvit, "S", stem=STEM, dropout=0.1, **PARTS, **TINY), images),
}
