"""The data-efficient image transformers, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.deit.model import VARIANTS, deit
from attention_notes.papers.vit.family import SIZES


def _reference(variant: str) -> Reference:
    size, distilled = SIZES[variant.split("/")[0]], "distilled_" if "distilled" in variant else ""
    return in_timm(f"deit_{size}_{distilled}patch16_{VARIANTS[variant]['image_size']}")


FAMILY = Family(deit, VARIANTS, _reference)
