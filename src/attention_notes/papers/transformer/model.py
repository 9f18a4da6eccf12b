"""Attention Is All You Need, Vaswani et al. 2017, arXiv 1706.03762.

In one sentence: a sequence is turned into another by attention and position-wise perceptrons alone, so that every
token reaches every other in one step and all of them are computed at once.

Departures: none from the text. Where it is silent: the attention maps have no biases, as in its equations
(``bias=True`` adds them), and dropout sits only where section 5.4 puts it, not inside attention or perceptron.
Offered beside the paper's own: ``PreNorm``, and the learned positions of Table 3 (E).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.nn.attention import Mask, MultiHeadAttention
from attention_notes.nn.decoding import greedy
from attention_notes.nn.keys_values import KeysValues
from attention_notes.nn.mlp import MLP
from attention_notes.nn.tokens import TokenTable
from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable

# Table 3. Rows (A), (C), (D) are overrides of the base model; (E) is positions=partial(LearnedPositions, length=...).
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"layers": 6, "dim": 512, "hidden": 2048, "heads": 8, "dropout": 0.1},
    "big": {"layers": 6, "dim": 1024, "hidden": 4096, "heads": 16, "dropout": 0.3},
}

Sublayer = Callable[[Tensor], Tensor]


class PostNorm(nn.Module):
    """LayerNorm(x + Sublayer(x)), section 3.1; dropout on the sub-layer's output, 5.4."""

    last = nn.Identity

    def __init__(self, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b n c"], sublayer: Sublayer) -> Float[Tensor, "b n c"]:
        """Add what the sub-layer says to what it read, then normalise the sum."""
        return self.norm(x + self.dropout(sublayer(x)))


class PreNorm(nn.Module):
    """x + Sublayer(LayerNorm(x)) (Xiong et al. 2020), and one norm after the stack."""

    last = nn.LayerNorm

    def __init__(self, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b n c"], sublayer: Sublayer) -> Float[Tensor, "b n c"]:
        """Normalise only what the sub-layer reads; the stream itself stays a plain sum."""
        return x + self.dropout(sublayer(self.norm(x)))


Residual = type[PostNorm] | type[PreNorm]  # ``last`` makes what a stack of them needs at its end


class EncoderLayer(nn.Module):
    """Self-attention, then the perceptron, each in its residual (section 3.1, "Encoder")."""

    def __init__(
        self, dim: int, *, heads: int, hidden: int, dropout: float, residual: Residual, bias: bool = False
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads=heads, bias=bias)
        self.mlp = MLP(dim, hidden=hidden, activation=nn.ReLU)
        self.residuals = nn.ModuleList(residual(dim, dropout=dropout) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n c"], *, mask: Mask | None = None) -> Float[Tensor, "b n c"]:
        """One layer; ``mask`` broadcasts to ``b h n n``, True where a token may look."""
        x = self.residuals[0](x, lambda x: self.attention(x, mask=mask))
        return self.residuals[1](x, self.mlp)


class Cache:
    """What one decoder layer need not compute twice: keys and values of the source and of the tokens written so far."""

    def __init__(self, source: tuple[Tensor, Tensor]) -> None:
        self.source = source
        self.written = KeysValues()


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the encoder's output, the perceptron (section 3.1, "Decoder")."""

    def __init__(
        self, dim: int, *, heads: int, hidden: int, dropout: float, residual: Residual, bias: bool = False
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads=heads, bias=bias)
        self.cross = MultiHeadAttention(dim, heads=heads, bias=bias)
        self.mlp = MLP(dim, hidden=hidden, activation=nn.ReLU)
        self.residuals = nn.ModuleList(residual(dim, dropout=dropout) for _ in range(3))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        memory: Float[Tensor, "b m c"],
        *,
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
    ) -> Float[Tensor, "b n c"]:
        """All tokens at once; ``mask`` broadcasts to ``b h n n`` and ``memory_mask`` to ``b h n m``."""
        x = self.residuals[0](x, lambda x: self.attention(x, mask=mask))
        x = self.residuals[1](x, lambda x: self.cross(x, memory, mask=memory_mask))
        return self.residuals[2](x, self.mlp)

    def step(self, x: Float[Tensor, "b 1 c"], cache: Cache, *, memory_mask: Mask | None = None) -> Tensor:
        """The newest token alone, over the cached rest: it may look at all that exists, so it needs no mask."""
        back, cross = self.attention, self.cross
        x = self.residuals[0](x, lambda x: back.attend(x, *cache.written.extend(*back.keys_values(x))))
        x = self.residuals[1](x, lambda x: cross.attend(x, *cache.source, mask=memory_mask))
        return self.residuals[2](x, self.mlp)


class Encoder(nn.Module):
    """A stack of ``layers`` encoder layers; ``sizes`` are theirs."""

    def __init__(self, dim: int, *, layers: int, residual: Residual = PostNorm, **sizes: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, residual=residual, **sizes) for _ in range(layers))
        self.last = residual.last(dim)

    def forward(self, x: Float[Tensor, "b n c"], *, mask: Mask | None = None) -> Float[Tensor, "b n c"]:
        """Masks as in ``EncoderLayer``."""
        for layer in self.layers:
            x = layer(x, mask=mask)
        return self.last(x)


class Decoder(nn.Module):
    """A stack of ``layers`` decoder layers, all of which attend to the same output of the encoder."""

    def __init__(self, dim: int, *, layers: int, residual: Residual = PostNorm, **sizes: Any) -> None:
        super().__init__()
        blocks = [DecoderLayer(dim, residual=residual, **sizes) for _ in range(layers)]
        self.layers = cast("Sequence[DecoderLayer]", nn.ModuleList(blocks))
        self.last = residual.last(dim)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        memory: Float[Tensor, "b m c"],
        *,
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Masks as in ``DecoderLayer``."""
        for layer in self.layers:
            x = layer(x, memory, mask=mask, memory_mask=memory_mask)
        return self.last(x)

    def caches(self, memory: Float[Tensor, "b m c"]) -> list[Cache]:
        """A fresh cache for each layer, with the source's keys and values in it."""
        return [Cache(layer.cross.keys_values(memory)) for layer in self.layers]

    def step(self, x: Float[Tensor, "b 1 c"], caches: list[Cache], *, memory_mask: Mask | None = None) -> Tensor:
        """The newest token through all layers; the caches grow by one token."""
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer.step(x, cache, memory_mask=memory_mask)
        return self.last(x)


class Sinusoids(nn.Module):
    """Section 3.5: sine and cosine of pos / 10000^(2i/c), alternating along the width.

    There is a row for every position, however far; no parameters.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim} is odd: sinusoids come in pairs of a sine and a cosine")
        self.dim = dim

    def forward(self, x: Float[Tensor, "b n c"], *, start: int = 0) -> Float[Tensor, "n c"]:
        """The rows for the tokens ``x``, the first of which stands at position ``start``."""
        exact = torch.promote_types(x.dtype, torch.float32)  # half precision cannot even count to 300
        rates = 10000 ** -(torch.arange(0, self.dim, 2, device=x.device, dtype=exact) / self.dim)
        angles = torch.arange(start, start + x.shape[1], device=x.device, dtype=exact)[:, None] * rates
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).to(x.dtype)


class LearnedPositions(nn.Module):
    """Table 3, row (E): a learned vector for each of ``length`` positions.

    Raises:
        ValueError: when tokens stand beyond the last row.
    """

    def __init__(self, dim: int, *, length: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(length, dim) * dim**-0.5)

    def forward(self, x: Float[Tensor, "b n c"], *, start: int = 0) -> Float[Tensor, "n c"]:
        """The rows for the tokens ``x``, the first of which stands at position ``start``."""
        if start + x.shape[1] > len(self.table):
            raise ValueError(
                f"a sequence of {start + x.shape[1]} tokens, but there are {len(self.table)} learned positions: "
                f"train with LearnedPositions(length={start + x.shape[1]}) or use Sinusoids, which have no end"
            )
        return self.table[start : start + x.shape[1]]


class Embedding(nn.Module):
    """Section 3.4: one matrix E for source, target and output; tokens enter as √c E + position.

    Args:
        vocabulary: number of tokens ``v``, source and target together.
        dim: width ``c``.
        positions: a module as ``Sinusoids`` or ``LearnedPositions``.
        padding: the token that fills short sequences; its row starts at zero and no lookup moves it.
        dropout: on the sum of embedding and position (section 5.4).
    """

    def __init__(self, vocabulary: int, dim: int, *, positions: nn.Module, padding: int, dropout: float) -> None:
        super().__init__()
        self.padding = padding
        self.tokens = TokenTable(vocabulary, dim, padding_idx=padding)
        nn.init.normal_(self.tokens.weight, std=dim**-0.5)  # so that scaled rows, and logits, start at unit variance
        nn.init.zeros_(self.tokens.weight[padding])
        self.positions = positions
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Int[Tensor, "b n"], *, start: int = 0) -> Float[Tensor, "b n c"]:
        """Vectors for tokens, the first of which stands at position ``start``."""
        x = self.tokens(tokens) * math.sqrt(self.tokens.embedding_dim)
        return self.dropout(x + self.positions(x, start=start))

    def logits(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n v"]:
        """The score of each token of the vocabulary: the product with its row of the same matrix."""
        return x @ self.tokens.weight.T


class Transformer(nn.Module):
    """Figure 1: the encoder reads the source, the decoder predicts at each target token the one that follows it."""

    def __init__(self, embedding: Embedding, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.embedding = embedding
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, source: Int[Tensor, "b m"], target: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits for the token after each target token, all at once (teacher forcing); padding is never looked at."""
        seen, written = self.present(source), self.present(target)
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).tril()
        memory = self.encoder(self.embedding(source), mask=seen)
        mask = causal & written
        return self.embedding.logits(self.decoder(self.embedding(target), memory, mask=mask, memory_mask=seen))

    def present(self, tokens: Int[Tensor, "b m"]) -> Bool[Tensor, "b 1 1 m"]:
        """Where there is a token and not padding. Raises ``ValueError`` for tokens that are no batch."""
        if tokens.ndim != 2:
            hint = ": for one sequence, give it tokens[None]" if tokens.ndim == 1 else ""
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}, but the model reads batches 'b n'{hint}")
        return tokens.ne(self.embedding.padding)[:, None, None]

    def begin(self, source: Int[Tensor, "b m"]) -> "Decoding":
        """Encode the source; the state from which its translation can be written token by token."""
        return Decoding(self, source)

    def greedy(self, source: Int[Tensor, "b m"], *, start: int, end: int, limit: int) -> Int[Tensor, "b n"]:
        """The likeliest token, then the likeliest after it, as ``nn.decoding.greedy`` has it; errors as there."""
        with torch.no_grad():
            state = self.begin(source)
        first = torch.full_like(source[:, 0], start)
        return greedy(state, first, end=end, limit=limit, padding=self.embedding.padding)


class Decoding:
    """A translation part of the way: keys and values of the source and of what is written are kept.

    A ``nn.decoding.DecodingState``.
    """

    def __init__(self, model: Transformer, source: Int[Tensor, "b m"]) -> None:
        self.model = model
        self.seen = model.present(source)
        self.caches = model.decoder.caches(model.encoder(model.embedding(source), mask=self.seen))
        self.texts = torch.arange(len(source), device=source.device)
        self.position = 0

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one token to each text; returns the logits of the token after it."""
        x = self.model.embedding(tokens[:, None], start=self.position)
        self.position += 1
        return self.model.embedding.logits(self.model.decoder.step(x, self.caches, memory_mask=self.seen))[:, 0]

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these texts, in this order."""
        texts = self.texts[rows]
        for cache in self.caches:
            cache.written.reorder(rows)
        if torch.equal(texts, self.texts):  # the beams of a text share its source
            return
        self.texts, self.seen = texts, self.seen[rows]
        for cache in self.caches:
            cache.source = cache.source[0][rows], cache.source[1][rows]


@pretrainable
def transformer(
    name: str,
    *,
    vocabulary: int,
    residual: Residual = PostNorm,
    positions: Callable[[int], nn.Module] = Sinusoids,
    padding: int = 0,
    **overrides: Any,
) -> Transformer:
    """Build a model of Table 3, as ``transformer("base", vocabulary=37000, layers=2)``.

    Args:
        name: a row of ``VARIANTS``.
        vocabulary: number of tokens, shared by source, target and output.
        residual: ``PostNorm``, the paper's, or ``PreNorm``.
        positions: makes the positions for a width.
        padding: the padding token.
        overrides: other ``layers``, ``dim``, ``hidden``, ``heads``, ``dropout``; ``bias=True`` for biased attention.

    Raises:
        ValueError: if the name or an override is unknown, or if ``heads`` does not divide ``dim``.
    """
    row = lookup(VARIANTS, name)
    sizes = {"bias": False, **row, **overrides}
    if unknown := sizes.keys() - row.keys() - {"bias"}:
        raise ValueError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}, bias")
    dim = sizes.pop("dim")
    embedding = Embedding(vocabulary, dim, positions=positions(dim), padding=padding, dropout=sizes["dropout"])
    return Transformer(embedding, Encoder(dim, residual=residual, **sizes), Decoder(dim, residual=residual, **sizes))


def learning_rate(step: int, *, dim: int, warmup: int = 4000) -> float:
    """Equation 3: c^-0.5 min(s^-0.5, s w^-1.5) at step s = 1, 2, ... of a warm-up of w steps.

    Raises:
        ValueError: if a number is below 1, as the first step of PyTorch's schedulers is.
    """
    if min(step, dim, warmup) < 1:
        raise ValueError(
            f"step={step}, dim={dim}, warmup={warmup}: all are 1 or more. The schedulers of PyTorch count from 0: give "
            "them lambda s: learning_rate(s + 1, ...)"
        )
    return dim**-0.5 * min(step**-0.5, step * warmup**-1.5)
