"""BERT, Devlin et al. 2019, arXiv 1810.04805."""

from attention_notes.papers.bert.model import (
    BERT,
    VARIANTS,
    Embeddings,
    Layer,
    Predictions,
    PreTraining,
    bert,
    mask_tokens,
    start,
)
from attention_notes.papers.bert.names import from_transformers, to_transformers

__all__ = [
    "BERT",
    "VARIANTS",
    "Embeddings",
    "Layer",
    "PreTraining",
    "Predictions",
    "bert",
    "from_transformers",
    "mask_tokens",
    "start",
    "to_transformers",
]
