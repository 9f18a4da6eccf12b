"""Scaling Vision Transformers: ViT-g and ViT-G, ViT-e and ViT-22B."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.scaling_vit import geometry, weights
from attention_notes.papers.scaling_vit.model import (
    VARIANTS,
    AttentionPooling,
    NormalisedAttention,
    ParallelBlock,
    ProbeAttention,
    ScalingViT,
    scale_norm,
    scaling_vit,
)

__all__ = [
    "VARIANTS",
    "AttentionPooling",
    "NormalisedAttention",
    "ParallelBlock",
    "ProbeAttention",
    "ScalingViT",
    "geometry",
    "scale_norm",
    "scaling_vit",
    "weights",
]
