"""Small models for the suite over all models."""

from torch import nn

from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.papers.why_attention import Convolution, Reader
from tests.contract import Case, cards


def _reader() -> nn.Module:
    mixers = [MultiHeadAttention(30, heads=3), Convolution(30, kernel=3)]
    return Reader(mixers, embedding=nn.Linear(7, 30), dim=30, classes=5)


MODELS = {"why_attention": Case(_reader, cards)}
