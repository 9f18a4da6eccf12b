"""Understanding the Effective Receptive Field in Deep CNNs, Luo, Li, Urtasun, Zemel, 2016, arXiv 1701.04128."""

from attention_notes.papers.why_attention.model import (
    Convolution,
    Layer,
    PositionMLP,
    Recurrence,
    dependence,
    free_weights,
    path_length,
    receptive_field,
    theoretical_receptive_field,
)

__all__ = [
    "Convolution",
    "Layer",
    "PositionMLP",
    "Recurrence",
    "dependence",
    "free_weights",
    "path_length",
    "receptive_field",
    "theoretical_receptive_field",
]
