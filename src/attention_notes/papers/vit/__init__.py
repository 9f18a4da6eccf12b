"""An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.vit import geometry, weights
from attention_notes.papers.vit.later import LATER, QuickGELU
from attention_notes.papers.vit.model import (
    VARIANTS,
    Block,
    ClassToken,
    MeanPooling,
    PatchEmbedding,
    SelfAttention,
    VisionTransformer,
    glorot,
    resize_positions,
    vit,
)

__all__ = [
    "LATER",
    "VARIANTS",
    "Block",
    "ClassToken",
    "MeanPooling",
    "PatchEmbedding",
    "QuickGELU",
    "SelfAttention",
    "VisionTransformer",
    "geometry",
    "glorot",
    "resize_positions",
    "vit",
    "weights",
]
