"""The attention of ``model.py`` for the short sequences of later papers: words of a patch, tokens of a window."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from attention_notes.nn.attention import attention, written_out
from attention_notes.papers.vit.model import SelfAttention


class ShortAttention(SelfAttention):
    """Self-attention of short sequences, by the equation itself in training; its numbers are those of the other.

    PyTorch's fused kernel for CPUs computes the weights a second time in the backward pass. For at most 64 tokens in
    single precision that takes longer than it takes to keep them; for more, and elsewhere, the fused kernel stays.
    """

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token."""
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        short = k.shape[-2] <= 64 and k.device.type == "cpu" and k.dtype == torch.float32
        mix = written_out if short and self.training else attention
        return self.output(rearrange(mix(q, k, v, dropout=self.attention_dropout.rate), "b h n d -> b n (h d)"))
