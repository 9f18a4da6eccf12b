"""Twins beside timm's."""

from attention_notes.papers import Family, in_timm
from attention_notes.papers.twins.model import VARIANTS, twins

FAMILY = Family(twins, VARIANTS, in_timm)
