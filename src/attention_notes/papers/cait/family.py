"""The Class-Attention Image Transformers, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.cait.model import VARIANTS, cait

IN_TIMM = ("xxs24_224", "xxs24_384", "xxs36_224", "xxs36_384", "xs24_384", "s24_224", "s24_384", "s36_384", "m36_384")
NEAREST = {"XS": "xs24_384", "S": "s36_384", "M": "m36_384"}  # of a width, for the depths and sizes that have no name


def _reference(variant: str) -> Reference:
    row, size = VARIANTS[variant], variant.split(" ")[0]
    if (name := f"{size.lower()}_{row['image_size']}") in (*IN_TIMM, "m48_448"):
        return in_timm(f"cait_{name}")
    nearest = NEAREST[size.rstrip("0123456789")]
    return in_timm(f"cait_{nearest}", depth=row["depth"], img_size=row["image_size"])


FAMILY = Family(cait, VARIANTS, _reference)
