"""Generative Pretraining from Pixels, Chen et al. 2020 (ICML). Not on arXiv.

In one sentence: a GPT reads an image as a text, pixel by pixel in raster order, each pixel a word of 512 colours, and
what it has learned about images by predicting the next pixel is read from its middle layers.

The palette of the colours is in ``palette``. Section 3.3 says that the code is that of GPT-2. The released code
(openai/image-gpt, commit c6af2eb, src/model.py) differs from it as this module does: the norm does not subtract the
mean, the non-linearity is x sigmoid(1.702 x), the output has a table of its own, and a start token stands before the
first pixel.

Departures: as in ``transformers``, the linear maps have biases, which start at zero, and the start token is the last
row of the colours' table; the released code has no biases and a vector beside the table. First weights are drawn as in
the released code. The BERT objective and the head for classes are not here. iGPT-XL has no row in ``VARIANTS``: the
number of its heads and its weights are not published.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.nn.variants import lookup
from attention_notes.papers.gpt import GPT
from attention_notes.papers.layer_norm import RMSNorm
from attention_notes.papers.transformer import PreNorm
from attention_notes.weights.pretrained import pretrainable

# Sections 3.2, 3.3 and 3.4 (no dropout); the heads are those of the commands in the README of openai/image-gpt.
_ALL = {"colours": 512, "context": 32 * 32, "dropout": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "iGPT-S": {**_ALL, "layers": 24, "dim": 512, "heads": 8},
    "iGPT-M": {**_ALL, "layers": 36, "dim": 1024, "heads": 8},
    "iGPT-L": {**_ALL, "layers": 48, "dim": 1536, "heads": 16},
}


class QuickGELU(nn.Module):
    """x σ(1.702 x), which is near to GELU (Hendrycks & Gimpel 2016, section 2): ``gelu2`` of the released code."""

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Entry by entry."""
        return x * (1.702 * x).sigmoid()


class PreRMSNorm(PreNorm):
    """x + Sublayer(norm(x)) and one norm after the stack, with the norm of the released code, which keeps the mean."""

    last: Any = RMSNorm

    def __init__(self, dim: int, *, dropout: float) -> None:
        super().__init__(dim, dropout=dropout)
        self.norm = cast("Any", RMSNorm(dim))


class ImageGPT(GPT):
    """A language model of images (sections 2.1 and 2.2).

        p(x) = Π_i p(x_i | x_1, ..., x_{i-1})
        n^l = norm(h^l),   a^l = h^l + attention(n^l),   h^{l+1} = a^l + mlp(norm(a^l)),   logits = norm(h^L) W^T

    It is a ``GPT`` whose tokens are colours, 0 to ``colours`` - 1, and the start token ``colours``: it reads the start
    token and the pixels ``x``, and gives logits over the colours for the pixel after each token. ``begin`` and
    ``greedy`` go on with an image, and so do the functions of ``papers.decoding``.

    Args:
        colours: number ``k`` of colours.
        context: the largest number of tokens, which is the number of pixels: the last pixel need not be read.
        layers: number of layers ``L``.
        dim: width ``c`` of the tokens, d in the paper.
        heads: number of heads; must divide ``dim``.
        dropout: on embeddings, branches and weights of the attention.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``, or if a size is below 1.
    """

    def __init__(self, colours: int, *, context: int, layers: int, dim: int, heads: int, dropout: float = 0.0) -> None:
        if colours < 1:
            raise ValueError(f"colours={colours}: a palette has 1 or more; the start token is added to them")
        super().__init__(
            colours + 1,
            context=context,
            layers=layers,
            dim=dim,
            heads=heads,
            residual=PreRMSNorm,
            dropout=dropout,
        )
        for layer in self.layers:
            layer.mlp.activation = QuickGELU()
        self.output = nn.Linear(dim, colours, bias=False)
        nn.init.zeros_(self.output.weight)  # section 3.3

    def _initialise(self, factor: float) -> None:
        """As in the released code, in place of GPT-2's, to which ``factor`` belongs."""
        dim, layers = self.positions.embedding_dim, len(self.layers)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)
        for layer in self.layers:
            maps = layer.attention
            spreads = dict.fromkeys((maps.query, maps.key, maps.value), dim**-0.5)
            spreads |= {maps.output: (dim * layers) ** -0.5, layer.mlp.expand: 0.02, layer.mlp.contract: 0.02}
            for linear, std in spreads.items():
                nn.init.normal_(linear.weight, std=std)
                nn.init.zeros_(linear.bias)

    @property
    def start(self) -> int:
        """The token before the first pixel."""
        return self.tokens.num_embeddings - 1

    def logits(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n k"]:
        """The score of each colour."""
        return self.output(x)

    def shifted(self, pixels: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """What is read to predict these pixels: the start token, then all but the last."""
        return torch.cat([torch.full_like(pixels[:, :1], self.start), pixels[:, :-1]], 1)

    def log_probabilities(self, pixels: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """log p(x_i | x_1, ..., x_{i-1}) for each pixel; the mean of their negative is the loss L_AR per pixel."""
        return self(self.shifted(pixels)).log_softmax(-1).gather(-1, pixels[..., None])[..., 0]

    def probe(self, pixels: Int[Tensor, "b n"], *, layer: int) -> Float[Tensor, "b c"]:
        """f^l = <n^l_i>_i, the features for a linear probe (section 2.4): the mean over the sequence.

        Args:
            pixels: an image.
            layer: how many layers are run, ``l`` from 0 to ``L``.

        Raises:
            ValueError: if there is no such layer.
        """
        if not 0 <= layer <= len(self.layers):
            raise ValueError(f"layer={layer}: the model has {len(self.layers)}, so it is 0 to {len(self.layers)}")
        x, n = self.embed(self.shifted(pixels)), pixels.shape[1]
        x, mask = x + self.positions.weight[:n], torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        for block in self.layers[:layer]:
            x = block(x, mask=mask)
        norm = self.last if layer == len(self.layers) else self.layers[layer].residuals[0].norm
        return cast("nn.Module", norm)(x).mean(1)


@pretrainable
def igpt(name: str, **overrides: Any) -> ImageGPT:
    """Build a model of the paper, as ``igpt("iGPT-S", layers=2, colours=16)``.

    Args:
        name: a row of ``VARIANTS``.
        overrides: other ``colours``, ``context``, ``layers``, ``dim``, ``heads``, ``dropout``.

    Raises:
        ValueError: if the name or an override is unknown, or if ``heads`` does not divide ``dim``.
    """
    row = lookup(VARIANTS, name)
    if unknown := overrides.keys() - row.keys():
        raise ValueError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    return ImageGPT(**{**row, **overrides})
