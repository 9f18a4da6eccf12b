"""The network that writes captions, with the maps of a VGG network and the sizes of the authors' code."""

from functools import partial

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.show_attend_tell.model import VARIANTS, show_attend_tell

VOCABULARY, WORDS = 10_000, 16  # as in the authors' code; and a caption of some length


def _maps(size: int | None) -> tuple[Tensor, ...]:
    return torch.randn(1, 512, 14, 14), torch.ones(1, WORDS, dtype=torch.int64)


FAMILY = Family(
    partial(show_attend_tell, vocabulary=VOCABULARY), VARIANTS, in_tests("its equations"), size=None, inputs=_maps
)
