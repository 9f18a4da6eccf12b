"""The Swin Transformers of both versions, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.swin.model import VARIANTS, swin

_SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large"}  # as timm spells them


def _reference(variant: str) -> Reference | str:
    version, letter = variant.split("_")[:2]
    if letter not in _SIZES:
        return "nobody published one"
    row, patch = VARIANTS[variant], "patch4_" if version == "swin" else ""
    return in_timm(f"{version}_{_SIZES[letter]}_{patch}window{row['window']}_{row['image_size']}")


FAMILY = Family(swin, VARIANTS, _reference)
