"""The attention of ``model.py`` for the short sequences of later papers: words of a patch, tokens of a window."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from attention_notes.nn.attention import written_out
from attention_notes.papers.vit.model import SelfAttention


class ShortAttention(SelfAttention):
    """Self-attention of short sequences, by the equation itself in training; its numbers are those of the other.

    PyTorch's fused kernel for CPUs computes the weights a second time in the backward pass. Where they are few, that
    takes longer than it takes to keep them.
    """

    def forward(self, z: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token look at every token."""
        if not self.training:
            return super().forward(z)
        q, k, v = rearrange(self.qkv(z), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        mixed = written_out(q, k, v, dropout=self.attention_dropout.rate)
        return self.output(rearrange(mixed, "b h n d -> b n (h d)"))
