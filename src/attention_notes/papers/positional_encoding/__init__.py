"""Self-Attention with Relative Position Representations, Shaw et al. 2018, arXiv 1803.02155, and its relatives."""

from attention_notes.papers.positional_encoding.model import (
    Biased,
    BucketBias,
    ConditionalPositions,
    Core,
    Encoder,
    GridBias,
    GridSinusoids,
    Layer,
    LinearBias,
    Plain,
    RelativePositions,
    Rotary,
    SelfAttention,
    joined,
    offsets,
)

__all__ = [
    "Biased",
    "BucketBias",
    "ConditionalPositions",
    "Core",
    "Encoder",
    "GridBias",
    "GridSinusoids",
    "Layer",
    "LinearBias",
    "Plain",
    "RelativePositions",
    "Rotary",
    "SelfAttention",
    "joined",
    "offsets",
]
