"""Twins: Revisiting the Design of Spatial Attention in Vision Transformers."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.cpvt import PositionEncodingGenerator
from attention_notes.papers.twins import geometry, weights
from attention_notes.papers.twins.model import (
    VARIANTS,
    EncodedBlock,
    LocallyGroupedAttention,
    MeanOfNorm,
    Patches,
    Twins,
    gsa,
    lsa,
    twins,
)

__all__ = [
    "VARIANTS",
    "EncodedBlock",
    "LocallyGroupedAttention",
    "MeanOfNorm",
    "Patches",
    "PositionEncodingGenerator",
    "Twins",
    "geometry",
    "gsa",
    "lsa",
    "twins",
    "weights",
]
