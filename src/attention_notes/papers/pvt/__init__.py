"""Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.pvt import geometry, weights
from attention_notes.papers.pvt.model import (
    V1,
    V2,
    V2_LINEAR,
    VARIANTS,
    ClassToken,
    ConvFeedForward,
    Design,
    LearnedPositions,
    PatchEmbedding,
    PooledReduction,
    PyramidVisionTransformer,
    SpatialReductionAttention,
    Stage,
    StridedReduction,
    cut,
    overlapping,
    pvt,
    start_v1,
    start_v2,
)

__all__ = [
    "V1",
    "V2",
    "V2_LINEAR",
    "VARIANTS",
    "ClassToken",
    "ConvFeedForward",
    "Design",
    "LearnedPositions",
    "PatchEmbedding",
    "PooledReduction",
    "PyramidVisionTransformer",
    "SpatialReductionAttention",
    "Stage",
    "StridedReduction",
    "cut",
    "geometry",
    "overlapping",
    "pvt",
    "start_v1",
    "start_v2",
    "weights",
]
