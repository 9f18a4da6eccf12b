"""Neural Machine Translation by Jointly Learning to Align and Translate, Bahdanau et al. 2015, arXiv 1409.0473."""

from attention_notes.papers.rnnsearch.model import (
    VARIANTS,
    AdditiveAttention,
    Decoder,
    Decoding,
    Encoder,
    FixedContext,
    GatedUnit,
    Readout,
    Recurrent,
    ResetAfter,
    RNNsearch,
    Unit,
    alignments,
    as_published,
    rnnsearch,
)

__all__ = [
    "VARIANTS",
    "AdditiveAttention",
    "Decoder",
    "Decoding",
    "Encoder",
    "FixedContext",
    "GatedUnit",
    "RNNsearch",
    "Readout",
    "Recurrent",
    "ResetAfter",
    "Unit",
    "alignments",
    "as_published",
    "rnnsearch",
]
