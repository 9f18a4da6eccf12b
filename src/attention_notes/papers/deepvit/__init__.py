"""DeepViT: Towards Deeper Vision Transformer."""

from attention_notes.papers.deepvit.model import VARIANTS, ConvPatches, DeepViT, ReAttention, RescaledBlock, deepvit

__all__ = ["VARIANTS", "ConvPatches", "DeepViT", "ReAttention", "RescaledBlock", "deepvit"]
