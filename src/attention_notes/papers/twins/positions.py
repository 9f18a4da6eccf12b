"""Conditional Positional Encodings for Vision Transformers.

Chu et al. 2021, arXiv 2102.10882. The idea: a small convolution makes the code of a place from the tokens around it, so
that a code of positions follows the image to any size.

Departures:
    - One depthwise convolution, the form that Twins calls the simplest; the stride of the authors' code, which no
      published model changes from 1, is left out.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attention_notes.nn.initialise import OwnLayers


class PositionEncodingGenerator(OwnLayers):
    """PEG: each channel of a map plus its own convolution, which reads the neighbours of a token.

        PEG(x) = x + DWConv(x)

    Around the map is zero, which tells a token near the border how far the border is.

    Args:
        dim: width ``c`` of the tokens.
        kernel: side of the window that a token's code is made from, an odd number.

    Raises:
        ValueError: if ``kernel`` is even.
    """

    no_weight_decay = ("convolution",)

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel}: give an odd number, so that the window has a token in its middle")
        self.convolution = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Float[Tensor, "b gy gx c"]) -> Float[Tensor, "b gy gx c"]:
        """Add to each token the code of its place."""
        codes = self.convolution(rearrange(x, "b gy gx c -> b c gy gx"))
        return x + rearrange(codes, "b c gy gx -> b gy gx c")
