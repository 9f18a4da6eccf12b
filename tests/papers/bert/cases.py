"""Small models for the suite over all models."""

from functools import partial

import torch
from torch import Tensor

from attention_notes.papers.bert import bert
from tests.contract import BATCH, DEVICE, Case

SMALL = {"layers": 2, "dim": 30, "heads": 3, "hidden": 44, "length": 13}


def _text(n: int = 7) -> tuple[Tensor]:
    return (torch.randint(1, 23, (BATCH, n), device=DEVICE),)


MODELS = {"bert": Case(partial(bert, "base", vocabulary=23, **SMALL), _text)}
