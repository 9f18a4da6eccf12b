"""The Transformers in Transformers, beside timm's."""

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.tnt.model import VARIANTS, tnt


def _reference(variant: str) -> Reference:
    if variant == "tnt_ti":  # the sizes of table 1, for which timm has no name
        sizes = {"embed_dim": 192, "num_heads_outer": 3, "inner_dim": 12, "num_heads_inner": 2}
        return in_timm("tnt_s_patch16_224", **sizes)
    return in_timm(f"{variant}_patch16_224")


FAMILY = Family(tnt, VARIANTS, _reference)
