"""Conditional Positional Encodings for Vision Transformers."""

# Imported so that the maps of attention know these models.
from attention_notes.papers.cpvt import geometry
from attention_notes.papers.cpvt.model import (
    CPVT,
    VARIANTS,
    EncodedBlock,
    Encoder,
    Patches,
    PositionEncodingGenerator,
    cpvt,
)

__all__ = [
    "CPVT",
    "VARIANTS",
    "EncodedBlock",
    "Encoder",
    "Patches",
    "PositionEncodingGenerator",
    "cpvt",
    "geometry",
]
