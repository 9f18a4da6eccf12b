"""Improving Language Understanding by Generative Pre-Training, Radford et al. 2018, and GPT-2, Radford et al. 2019."""

# Imported so that other people's weights know these models.
from attention_notes.papers.gpt import weights
from attention_notes.papers.gpt.model import GPT, VARIANTS, Decoding, Layer, gpt

__all__ = ["GPT", "VARIANTS", "Decoding", "Layer", "gpt", "weights"]
