"""Non-local Neural Networks."""

# Imported so that the maps of attention know these models.
from attention_notes.papers.non_local import geometry
from attention_notes.papers.non_local.model import (
    C2D,
    VARIANTS,
    Concatenation,
    DotProduct,
    Embed,
    EmbeddedGaussian,
    Gaussian,
    NonLocal,
    embed_then_pool,
    insert,
    non_local_resnet,
    pool_then_embed,
    rectified_sums,
)

__all__ = [
    "C2D",
    "VARIANTS",
    "Concatenation",
    "DotProduct",
    "Embed",
    "EmbeddedGaussian",
    "Gaussian",
    "NonLocal",
    "embed_then_pool",
    "geometry",
    "insert",
    "non_local_resnet",
    "pool_then_embed",
    "rectified_sums",
]
