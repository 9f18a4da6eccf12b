"""Attention Is All You Need, Vaswani et al. 2017, arXiv 1706.03762."""

from attention_notes.papers.transformer.model import (
    VARIANTS,
    Cache,
    Decoder,
    DecoderLayer,
    Embedding,
    Encoder,
    EncoderLayer,
    LearnedPositions,
    PostNorm,
    PreNorm,
    Residual,
    Sinusoids,
    Sublayer,
    Transformer,
    learning_rate,
    transformer,
)

__all__ = [
    "VARIANTS",
    "Cache",
    "Decoder",
    "DecoderLayer",
    "Embedding",
    "Encoder",
    "EncoderLayer",
    "LearnedPositions",
    "PostNorm",
    "PreNorm",
    "Residual",
    "Sinusoids",
    "Sublayer",
    "Transformer",
    "learning_rate",
    "transformer",
]
