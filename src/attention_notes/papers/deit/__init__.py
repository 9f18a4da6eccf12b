"""Training data-efficient image transformers & distillation through attention."""

# Imported so that other people's weights know these models.
from attention_notes.papers.deit import weights
from attention_notes.papers.deit.model import (
    RECIPE,
    VARIANTS,
    VIT_RECIPE,
    DistilledVisionTransformer,
    Labels,
    Model,
    Outputs,
    TwoTokens,
    cutmix,
    deit,
    erase,
    hard_distillation,
    late_fusion,
    mix,
    mixup,
    repeated_augmentation,
    smooth,
    soft_distillation,
)

__all__ = [
    "RECIPE",
    "VARIANTS",
    "VIT_RECIPE",
    "DistilledVisionTransformer",
    "Labels",
    "Model",
    "Outputs",
    "TwoTokens",
    "cutmix",
    "deit",
    "erase",
    "hard_distillation",
    "late_fusion",
    "mix",
    "mixup",
    "repeated_augmentation",
    "smooth",
    "soft_distillation",
    "weights",
]
