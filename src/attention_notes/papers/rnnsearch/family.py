"""The translator of the paper, which reads a sentence and writes another."""

from functools import partial

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.rnnsearch.model import VARIANTS, rnnsearch

VOCABULARY, TOKENS = 30_000, 50  # section 4.1, and the longest sentences of the trainings


def _sentences(size: int | None) -> tuple[Tensor, ...]:
    return torch.ones(1, TOKENS, dtype=torch.int64), torch.ones(1, TOKENS, dtype=torch.int64)


FAMILY = Family(
    partial(rnnsearch, vocabulary=VOCABULARY),
    VARIANTS,
    in_tests("nn.GRU and its equations"),
    size=None,
    inputs=_sentences,
)
