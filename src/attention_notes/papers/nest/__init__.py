"""Nested Hierarchical Transformer: Towards Accurate, Data-Efficient and Interpretable Visual Understanding."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.nest import geometry, weights
from attention_notes.papers.nest.model import (
    VARIANTS,
    BlockAggregation,
    Level,
    LocalAttention,
    MultiQueryAttention,
    NesT,
    centred_max_pool,
    max_pool,
    nest,
)

__all__ = [
    "VARIANTS",
    "BlockAggregation",
    "Level",
    "LocalAttention",
    "MultiQueryAttention",
    "NesT",
    "centred_max_pool",
    "geometry",
    "max_pool",
    "nest",
    "weights",
]
