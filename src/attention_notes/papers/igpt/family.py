"""iGPT, which goes on with an image pixel by pixel."""

import torch
from torch import Tensor

from attention_notes.papers import Family, in_tests
from attention_notes.papers.igpt.model import VARIANTS, igpt

TOKENS = 32 * 32  # the images of the paper


def _images(size: int | None) -> tuple[Tensor, ...]:
    return (torch.ones(1, TOKENS, dtype=torch.int64),)


FAMILY = Family(igpt, VARIANTS, in_tests("ImageGPTForCausalImageModeling"), size=None, inputs=_images)
