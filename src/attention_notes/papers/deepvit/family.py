"""The DeepViTs, which no library has."""

from attention_notes.papers import Family, in_tests
from attention_notes.papers.deepvit.model import VARIANTS, deepvit

FAMILY = Family(deepvit, VARIANTS, in_tests("its equation, and timm's ViT where Θ is the identity"))
