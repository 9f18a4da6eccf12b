"""Going deeper with Image Transformers."""

# Imported so that the maps of attention and other people's weights know these models.
from attention_notes.papers.cait import geometry, weights
from attention_notes.papers.cait.model import (
    VARIANTS,
    CaiT,
    ClassAttention,
    ClassAttentionBlock,
    ClassAttentionStage,
    TalkingHeads,
    cait,
    mix_heads,
)

__all__ = [
    "VARIANTS",
    "CaiT",
    "ClassAttention",
    "ClassAttentionBlock",
    "ClassAttentionStage",
    "TalkingHeads",
    "cait",
    "geometry",
    "mix_heads",
    "weights",
]
