"""Transformers from Scratch, Peter Bloem, 2019, http://peterbloem.nl/blog/transformers (a lecture, no arXiv id)."""

from attention_notes.papers.self_attention.model import (
    Additive,
    Compatibility,
    ConvolutionByHeads,
    General,
    dot,
    matching,
    self_attention,
)

__all__ = ["Additive", "Compatibility", "ConvolutionByHeads", "General", "dot", "matching", "self_attention"]
