"""Small models for the suite over all models."""

from functools import partial

from torch import nn

from attention_notes.papers.glu import NETWORKS, with_gates
from attention_notes.papers.transformer import Encoder, PreNorm
from tests.contract import Case, embedded


def _gated(name: str) -> nn.Module:
    encoder = Encoder(30, layers=2, residual=PreNorm, heads=3, hidden=44, dropout=0.1)
    return with_gates(encoder, NETWORKS[name])


MODELS = {
    f"glu {name}": Case(partial(_gated, name), embedded, no_traced_onnx="it gives the mask, a keyword, by position")
    for name in ("ReLU", "Bilinear", "GEGLU", "SwiGLU")
}
