"""The Vision Transformers, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.vit.model import VARIANTS, vit

SIZES = {"Ti": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge"}  # as timm spells them


def _reference(variant: str) -> Reference:
    size, patch = variant.split("/")
    return in_timm(f"vit_{SIZES[size]}_patch{patch}_224")


FAMILY = Family(vit, VARIANTS, _reference)
