"""The Vision Transformers of AugReg, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.augreg.model import VARIANTS, augreg
from attention_notes.papers.vit.family import SIZES


def _reference(variant: str) -> Reference:
    size, patch = VARIANTS[variant]["size"].split("/")
    return in_timm(f"vit_{SIZES[size]}_patch{patch}_224", img_size=224)


FAMILY = Family(augreg, VARIANTS, _reference)
