"""BERT in its two sizes, and later ones."""

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.bert.model import NAMED, bert

TOKENS = 128  # the length of most of the pre-training (appendix A.2)


def _text(size: int | None) -> tuple[Tensor, ...]:
    return (torch.ones(1, TOKENS, dtype=torch.int64),)


FAMILY = Family(bert, NAMED, in_tests("transformers' BertModel"), size=None, inputs=_text)
