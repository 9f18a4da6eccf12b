"""On Layer Normalization in the Transformer Architecture, Xiong et al. 2020, arXiv 2002.04745."""

from attention_notes.papers.layer_norm.model import (
    BatchNorm,
    LayerNorm,
    Model,
    PowerNorm,
    RMSNorm,
    Stack,
    start_as_analysed,
    with_norm,
)

__all__ = ["BatchNorm", "LayerNorm", "Model", "PowerNorm", "RMSNorm", "Stack", "start_as_analysed", "with_norm"]
