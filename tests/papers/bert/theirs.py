"""The small model of this paper, and the same of ``transformers``."""

from typing import Any

import torch
from torch import nn

from attention_notes.papers.bert import BERT

# every size another prime, but for the width, which the heads divide
SIZES: dict[str, Any] = {"layers": 2, "dim": 33, "heads": 3, "hidden": 47, "length": 13}
VOCABULARY = 23


def small(**options: Any) -> BERT:
    return BERT(VOCABULARY, **{**SIZES, **options})


def theirs(kind: str = "BertForPreTraining", dtype: torch.dtype = torch.float32) -> nn.Module:
    """One of their models in evaluation mode, with random numbers where it starts at zero or one, too."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=SIZES["dim"],
        num_hidden_layers=SIZES["layers"],
        num_attention_heads=SIZES["heads"],
        intermediate_size=SIZES["hidden"],
        max_position_embeddings=SIZES["length"],
        attn_implementation="eager",
    )
    model = getattr(transformers, kind)(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            table = parameter.ndim == 1 or "embeddings" in name
            std = 0.3 if table else parameter.shape[1] ** -0.5
            parameter.normal_(mean=0.8 if name.endswith("LayerNorm.weight") else 0.1 * (parameter.ndim == 1), std=std)
    return model
