"""The model of the paper, which reads a sentence and writes another."""

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.seq2seq.model import VARIANTS, seq2seq

TOKENS = 25  # "most sentences are short (e.g., length 20-30)", section 3.4


def _sentences(size: int | None) -> tuple[Tensor, ...]:
    return torch.ones(1, TOKENS, dtype=torch.int64), torch.ones(1, TOKENS, dtype=torch.int64)


FAMILY = Family(seq2seq, VARIANTS, in_tests("nn.LSTM"), size=None, inputs=_sentences)
