"""NesT beside timm's, which pads as the authors' code does."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.nest.model import VARIANTS, nest

_SIZES = {"t": "tiny", "s": "small", "b": "base"}  # as timm spells them


def _reference(variant: str) -> Reference:
    return in_timm(f"nest_{_SIZES[variant[-1]]}_jx")


FAMILY = Family(nest, VARIANTS, _reference)
