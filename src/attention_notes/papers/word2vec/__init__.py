"""Efficient Estimation of Word Representations in Vector Space, Mikolov et al. 2013, arXiv 1301.3781."""

from attention_notes.papers.word2vec.model import (
    CBOW,
    NOTHING,
    Bottleneck,
    SkipGram,
    co_occurrences,
    expected_loss,
    kept,
    negative_sampling,
    noise,
    pairs,
    place,
    shifted_pmi,
    windows,
)

__all__ = [
    "CBOW",
    "NOTHING",
    "Bottleneck",
    "SkipGram",
    "co_occurrences",
    "expected_loss",
    "kept",
    "negative_sampling",
    "noise",
    "pairs",
    "place",
    "shifted_pmi",
    "windows",
]
