"""BERT, Devlin et al. 2019, arXiv 1810.04805."""

from attention_notes.papers.bert import weights  # imported so that other people's weights know these models
from attention_notes.papers.bert.minilm import SentenceEncoder, minilm, minilm_folder
from attention_notes.papers.bert.model import (
    BERT,
    LATER,
    VARIANTS,
    Embeddings,
    Layer,
    Predictions,
    PreTraining,
    bert,
    mask_tokens,
    start,
)
from attention_notes.papers.bert.tokens import SPECIAL, WordPiece, words

__all__ = [
    "BERT",
    "LATER",
    "SPECIAL",
    "VARIANTS",
    "Embeddings",
    "Layer",
    "PreTraining",
    "Predictions",
    "SentenceEncoder",
    "WordPiece",
    "bert",
    "mask_tokens",
    "minilm",
    "minilm_folder",
    "start",
    "weights",
    "words",
]
