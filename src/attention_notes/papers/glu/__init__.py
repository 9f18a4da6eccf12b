"""GLU Variants Improve Transformer, Shazeer 2020, arXiv 2002.05202."""

from attention_notes.papers.glu.model import (
    FFN,
    GATES,
    GLU,
    NETWORKS,
    GatedFFN,
    Model,
    Swish,
    as_in_t5,
    two_thirds,
    with_gates,
)

__all__ = ["FFN", "GATES", "GLU", "NETWORKS", "GatedFFN", "Model", "Swish", "as_in_t5", "two_thirds", "with_gates"]
