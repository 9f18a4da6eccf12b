"""Transformer in Transformer."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.tnt import geometry, weights
from attention_notes.papers.tnt.model import (
    TNT,
    VARIANTS,
    Aggregation,
    InnerBlock,
    SentenceEmbedding,
    TNTBlock,
    WordEmbedding,
    tnt,
)

__all__ = [
    "TNT",
    "VARIANTS",
    "Aggregation",
    "InnerBlock",
    "SentenceEmbedding",
    "TNTBlock",
    "WordEmbedding",
    "geometry",
    "tnt",
    "weights",
]
