"""Effective Approaches to Attention-based Neural Machine Translation, Luong et al. 2015, arXiv 1508.04025."""

from attention_notes.papers.luong.model import (
    VARIANTS,
    Concat,
    Decoder,
    Decoding,
    Dot,
    Encoder,
    General,
    Global,
    Location,
    Monotonic,
    Predictive,
    Stack,
    State,
    Translator,
    luong,
)

__all__ = [
    "VARIANTS",
    "Concat",
    "Decoder",
    "Decoding",
    "Dot",
    "Encoder",
    "General",
    "Global",
    "Location",
    "Monotonic",
    "Predictive",
    "Stack",
    "State",
    "Translator",
    "luong",
]
