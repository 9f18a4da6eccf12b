"""The models of the scaling papers, beside timm's, which have such heads and blocks by option."""

from functools import partial
from typing import Any

from torch import nn

from attention_notes.papers import Family, Reference, in_timm
from attention_notes.papers.scaling_vit.model import VARIANTS, ParallelBlock, scaling_vit

LARGEST = 1024  # width of a model that is run whole beside timm's: ViT-g takes 8 GB for both, ViT-22B 180


def _reference(variant: str) -> Reference | str:
    row = VARIANTS[variant]
    if row["dim"] > LARGEST:
        return "timm's at fewer layers, in the tests"
    return wide_reference(variant)


def wide_reference(variant: str) -> Reference:
    """timm's model of the sizes of any variant; of the large ones on the meta device, or with fewer layers."""
    row = VARIANTS[variant]
    sizes = {"embed_dim": row["dim"], "depth": row["depth"], "num_heads": row["heads"], "patch_size": row["patch"]}
    options: dict[str, Any] = {"mlp_ratio": row["hidden"] / row["dim"] + 1e-9, "class_token": False}
    reference = in_timm("vit_gigantic_patch14_224", global_pool="map", **sizes, **options)
    return (
        reference
        if row.get("block") is not ParallelBlock
        else reference._replace(build=partial(_parallel, sizes | options))
    )


def _parallel(options: dict[str, Any]) -> nn.Module:
    from timm.models.vision_transformer import ParallelScalingBlock

    norm = partial(nn.LayerNorm, eps=1e-6, bias=False)
    options = options | {"block_fn": ParallelScalingBlock, "qkv_bias": False, "qk_norm": True, "norm_layer": norm}
    return in_timm("vit_gigantic_patch14_224", global_pool="map", **options).build()


FAMILY = Family(scaling_vit, VARIANTS, _reference)
