"""The Vision Transformers of smaller and smaller patches, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.patchification.model import VARIANTS, patchification
from attention_notes.papers.vit.family import SIZES

MOST = 1024  # tokens of a model that is run whole beside timm's: with 50,176 that would take an hour


def _reference(variant: str) -> Reference | str:
    row, size = VARIANTS[variant], SIZES[variant.partition("/")[0]]
    if (row["image_size"] // row["patch"]) ** 2 > MOST:
        return "timm's at fewer layers, in the tests"
    named = 14 if size == "huge" else 16
    return in_timm(f"vit_{size}_patch{named}_224", patch_size=row["patch"], img_size=row["image_size"])


FAMILY = Family(patchification, VARIANTS, _reference)
