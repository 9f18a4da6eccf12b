"""The Conditional Position encoding Vision Transformers; no library has them."""

from attention_notes.papers import Family, in_tests
from attention_notes.papers.cpvt.model import VARIANTS, cpvt

FAMILY = Family(cpvt, VARIANTS, in_tests("timm's ViT with the generators of its Twins between the blocks"))
