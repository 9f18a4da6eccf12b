"""Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, and Swin Transformer V2."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.swin import geometry, weights
from attention_notes.papers.swin.model import (
    VARIANTS,
    Block,
    CosineWindowAttention,
    InWindows,
    PatchMerging,
    PostNormMerging,
    PreNorm,
    ResPostNorm,
    Swin,
    WindowAttention,
    add_norms,
    silent_norm,
    swin,
)

__all__ = [
    "VARIANTS",
    "Block",
    "CosineWindowAttention",
    "InWindows",
    "PatchMerging",
    "PostNormMerging",
    "PreNorm",
    "ResPostNorm",
    "Swin",
    "WindowAttention",
    "add_norms",
    "geometry",
    "silent_norm",
    "swin",
    "weights",
]
