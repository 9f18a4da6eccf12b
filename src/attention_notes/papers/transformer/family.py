"""The Transformers of the paper, which read a sentence and write another."""

from functools import partial

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.transformer.model import VARIANTS, transformer

VOCABULARY, TOKENS = 37_000, 64  # section 5.1; and a sentence of some length


def _sentences(size: int | None) -> tuple[Tensor, ...]:
    return torch.ones(1, TOKENS, dtype=torch.int64), torch.ones(1, TOKENS, dtype=torch.int64)


FAMILY = Family(
    partial(transformer, vocabulary=VOCABULARY), VARIANTS, in_tests("nn.Transformer"), size=None, inputs=_sentences
)
