"""GPT and GPT-2, which go on with a text."""

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.gpt.model import VARIANTS, gpt

TOKENS = 64  # a text of some length


def _texts(size: int | None) -> tuple[Tensor, ...]:
    return (torch.ones(1, TOKENS, dtype=torch.int64),)


FAMILY = Family(gpt, VARIANTS, in_tests("OpenAIGPTModel and GPT2Model"), size=None, inputs=_texts)
