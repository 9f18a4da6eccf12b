"""The two sizes of BERT."""

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.bert.model import VARIANTS, bert


def _text(size: int | None) -> tuple[Tensor, ...]:
    return (torch.ones(1, 128, dtype=torch.int64),)


FAMILY = Family(bert, VARIANTS, in_tests("transformers' BertModel"), size=None, inputs=_text)
