"""Early Convolutions Help Transformers See Better."""

# Imported so that other people's weights know these models.
from attention_notes.papers.early_conv import weights
from attention_notes.papers.early_conv.model import STEMS, VARIANTS, ConvStem, ViTC, early_conv

__all__ = ["STEMS", "VARIANTS", "ConvStem", "ViTC", "early_conv", "weights"]
