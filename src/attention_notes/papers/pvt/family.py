"""The Pyramid Vision Transformers: the first version beside that of transformers, the second beside timm's."""

from torch import nn

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.pvt.model import VARIANTS, pvt


def _reference(variant: str) -> Reference:
    if "v2" in variant:
        return in_timm(variant)

    def build() -> nn.Module:
        from transformers import PvtConfig, PvtForImageClassification

        model = PvtForImageClassification(PvtConfig(depths=VARIANTS[variant]["depths"], num_labels=1000))
        for name, module in model.named_modules():
            if ("patch_embeddings" in name and name.endswith("layer_norm")) or name.endswith("self.layer_norm"):
                module.eps = 1e-5  # those of patches and reductions, as in the authors' code; transformers has 1e-6
        return model

    return Reference("transformers", "transformers", build)


FAMILY = Family(pvt, VARIANTS, _reference)
