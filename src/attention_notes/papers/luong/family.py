"""The translators of the paper, which read a sentence and write another."""

from functools import partial

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.luong.model import VARIANTS, luong

VOCABULARY, TOKENS = 50_000, 50  # section 4.1: words of each language, and the longest sentence


def _sentences(size: int | None) -> tuple[Tensor, ...]:
    return torch.ones(1, TOKENS, dtype=torch.int64), torch.ones(1, TOKENS, dtype=torch.int64)


FAMILY = Family(
    partial(luong, vocabulary=VOCABULARY), VARIANTS, in_tests("its equations"), size=None, inputs=_sentences
)
