"""Small models for the suite over all models."""

from functools import partial

import torch

from attention_notes.papers.bert import bert
from tests.contract import Case


def _text(batch: int):
    return (torch.randint(1, 23, (batch, 7)),)


MODELS = {
    "bert": Case(partial(bert, "base", vocabulary=23, layers=2, dim=30, heads=3, hidden=44, length=13), _text),
}
