"""The Vision Transformers, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.vit.model import NAMED, vit

SIZES = {"Ti": "tiny", "S": "small", "M": "medium", "B": "base", "L": "large", "H": "huge"}  # as timm spells them
SPELLED = {
    "": "vit_{}_224",
    "DINOv2": "vit_{}_dinov2",
    "DINOv2 registers": "vit_{}_reg4_dinov2",
    "DeiT III": "deit3_{}_224",
    "CLIP": "vit_{}_clip_quickgelu_224",
}


def _reference(variant: str) -> Reference:
    name, _, paper = variant.partition(" ")
    size, patch = name.split("/")
    return in_timm(SPELLED[paper].format(f"{SIZES[size]}_patch{patch}"), img_size=224)


FAMILY = Family(vit, NAMED, _reference)
