"""Disentangled Non-Local Neural Networks."""

# Imported so that the maps of attention know these models.
from attention_notes.papers.dnl import geometry
from attention_notes.papers.dnl.model import (
    DNL,
    VARIANTS,
    Added,
    Coupled,
    Disentangled,
    DNLNet,
    Multiplied,
    Pairwise,
    Unary,
    dnl,
    pairwise_term,
    unary_term,
    whitened,
)

__all__ = [
    "DNL",
    "VARIANTS",
    "Added",
    "Coupled",
    "DNLNet",
    "Disentangled",
    "Multiplied",
    "Pairwise",
    "Unary",
    "dnl",
    "geometry",
    "pairwise_term",
    "unary_term",
    "whitened",
]
