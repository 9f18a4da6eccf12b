"""Generative Pretraining from Pixels, Chen et al. 2020 (ICML)."""

# Imported so that other people's weights know these models.
from attention_notes.papers.igpt import weights
from attention_notes.papers.igpt.model import VARIANTS, ImageGPT, PreRMSNorm, QuickGELU, igpt
from attention_notes.papers.igpt.palette import cluster, to_images, to_tokens

__all__ = ["VARIANTS", "ImageGPT", "PreRMSNorm", "QuickGELU", "cluster", "igpt", "to_images", "to_tokens", "weights"]
