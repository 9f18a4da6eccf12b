"""The layer norm of Vision Transformers."""

from functools import partial

from torch import nn

layer_norm = partial(nn.LayerNorm, eps=1e-6)  # as in the authors' code of ViT, DeiT and PVT; PyTorch's own is 1e-5
