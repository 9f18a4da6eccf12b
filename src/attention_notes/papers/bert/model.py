"""BERT: Pre-training of Deep Bidirectional Transformers, Devlin et al. 2019, arXiv 1810.04805.

In one sentence: an encoder that sees both sides of every token is trained to restore hidden tokens and to tell whether
one text follows another, and is then tuned to a task with one layer more.

Departures: ``mask_tokens`` selects each token by itself with probability ``rate``, where the authors' code
(``create_pretraining_data.py``) selects a fixed share of each text. As in transformers, and not in the authors'
``modeling.py``: weights start from a normal distribution that is not truncated, the row of the padding starts at zero,
GELU is exact and not approximated by tanh, and padding gets no attention at all, where the authors subtract 10,000 from
its scores.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.nn.mlp import MLP
from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable

# Section 3, "Model Architecture": L, H, A; the perceptron is 4 H wide.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"layers": 12, "dim": 768, "hidden": 3072, "heads": 12},
    "large": {"layers": 24, "dim": 1024, "hidden": 4096, "heads": 16},
}
# Not of the paper: sizes of the published weights, from their config.json.
LATER: dict[str, dict[str, Any]] = {"minilm_l6": {"layers": 6, "dim": 384, "hidden": 1536, "heads": 12}}
NAMED = VARIANTS | LATER
EPS = 1e-12  # of every norm, as in the authors' modeling.py


class Embeddings(nn.Module):
    """Norm(token + position + segment), Figure 2: three tables, summed.

    Raises:
        ValueError: in ``forward``, for too many tokens, unknown tokens, or unknown segments.
    """

    def __init__(self, dim: int, *, vocabulary: int, length: int, segments: int, dropout: float, padding: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim, padding_idx=padding)
        self.positions = nn.Embedding(length, dim)
        self.segments = nn.Embedding(segments, dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Int[Tensor, "b n"], segments: Int[Tensor, "b n"] | None = None) -> Tensor:
        """Sum the three rows of each token; without ``segments`` all tokens are of the first."""
        length = self.positions.num_embeddings
        if tokens.shape[-1] > length:
            raise ValueError(
                f"{tokens.shape[-1]} tokens, but there are {length} positions: cut the text or give length="
            )
        segments = torch.zeros_like(tokens) if segments is None else segments
        _check_known("token", tokens, self.tokens.num_embeddings)
        _check_known("segment", segments, self.segments.num_embeddings)
        x = self.tokens(tokens) + self.segments(segments) + self.positions.weight[: tokens.shape[-1]]
        return self.dropout(self.norm(x))


class Layer(nn.Module):
    """An encoder layer with the norm after each sum: z' = Norm(z + MHA(z)), z'' = Norm(z' + MLP(z'))."""

    def __init__(self, dim: int, *, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads=heads, attention_dropout=dropout)
        self.attention_norm = nn.LayerNorm(dim, eps=EPS)
        self.mlp = MLP(dim, hidden=hidden)
        self.mlp_norm = nn.LayerNorm(dim, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Float[Tensor, "b n c"], *, mask: Bool[Tensor, "..."] | None = None) -> Tensor:
        """Mix the tokens, both sides of each, then change each by itself."""
        z = self.attention_norm(z + self.dropout(self.attention(z, mask=mask)))
        return self.mlp_norm(z + self.dropout(self.mlp(z)))


class BERT(nn.Module):
    """The encoder, and the pooler that reads the first token: tanh(W z_1 + b).

    Args:
        vocabulary: number of tokens.
        layers, dim, heads, hidden: L, H, A, and the width inside the perceptron.
        length: number of positions.
        segments: number of segments.
        dropout: everywhere, and of the weights of the attention.
        padding: the token that fills short texts; its row starts at zero and it is not looked at.
        spread: standard deviation with which weights start; the paper's models, 768 and more wide, have 0.02.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        layers: int,
        dim: int,
        heads: int,
        hidden: int,
        length: int = 512,
        segments: int = 2,
        dropout: float = 0.1,
        padding: int = 0,
        spread: float = 0.02,
    ) -> None:
        super().__init__()
        self.padding, self.spread = padding, spread
        self.embeddings = Embeddings(
            dim, vocabulary=vocabulary, length=length, segments=segments, dropout=dropout, padding=padding
        )
        self.layers = nn.ModuleList(Layer(dim, heads=heads, hidden=hidden, dropout=dropout) for _ in range(layers))
        self.pooler = nn.Linear(dim, dim)
        self.apply(partial(start, spread=spread))

    def forward(
        self, tokens: Int[Tensor, "b n"], segments: Int[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b c"]]:
        """All tokens, and the pooled first one.

        Raises:
            ValueError: for tokens that are no batch, or none; and as ``Embeddings``.
        """
        if tokens.ndim != 2:
            hint = ": for one text, give it tokens[None]" if tokens.ndim == 1 else ""
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}, but the model reads batches 'b n'{hint}")
        if tokens.shape[1] < 1:
            raise ValueError("texts of no tokens: give at least one, such as [CLS], which the pooler reads")
        z, mask = self.embeddings(tokens, segments), tokens.ne(self.padding)[:, None, None]
        for layer in self.layers:
            z = layer(z, mask=mask)
        return z, self.pooler(z[:, 0]).tanh()


class Predictions(NamedTuple):
    """Logits of the two tasks."""

    words: Float[Tensor, "b n v"]
    follows: Float[Tensor, "b 2"]


class PreTraining(nn.Module):
    """BERT with the heads of both tasks (section 3.1).

    words = Norm(GELU(W z + b)) Eᵀ + b_v    with the table E of the tokens;    follows = W_s pooled + b_s
    """

    def __init__(self, bert: BERT) -> None:
        super().__init__()
        vocabulary, dim = bert.embeddings.tokens.weight.shape
        self.bert = bert
        self.transform = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.follows = nn.Linear(dim, 2)
        start(self.transform, spread=bert.spread)
        start(self.follows, spread=bert.spread)

    def forward(self, tokens: Int[Tensor, "b n"], segments: Int[Tensor, "b n"] | None = None) -> Predictions:
        """Logits for every token, and for the pair; class 0 says that the second text follows."""
        z, pooled = self.bert(tokens, segments)
        return Predictions(self.words(z), self.follows(pooled))

    def words(self, z: Float[Tensor, "*b c"]) -> Float[Tensor, "*b v"]:
        """Logits of the words at some tokens: in training those that are to be predicted are enough."""
        return F.linear(self.norm(F.gelu(self.transform(z))), self.bert.embeddings.tokens.weight, self.bias)


def mask_tokens(
    tokens: Int[Tensor, "*b n"],
    *,
    mask: int,
    vocabulary: int,
    special: tuple[int, ...] = (),
    rate: int | float = 0.15,
    generator: Generator | None = None,
) -> tuple[Int[Tensor, "*b n"], Bool[Tensor, "*b n"]]:
    """Corrupt a text for the first task (section 3.1): of the selected tokens 80 % become ``mask``, 10 % any token.

    Args:
        tokens: the text.
        mask: the token [MASK].
        vocabulary: number of tokens, from which the random ones are drawn.
        special: tokens that are never selected.
        rate: probability of being selected.
        generator: of random numbers, on the device of the tokens.

    Returns:
        The corrupted text, and which tokens are to be predicted.

    Raises:
        ValueError: if ``rate`` is no probability.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate} must be in [0, 1]")
    draw = torch.rand(2, *tokens.shape, generator=generator, device=tokens.device)
    others = torch.randint(vocabulary, tokens.shape, generator=generator, device=tokens.device)
    chosen = (draw[0] < rate) & ~torch.isin(tokens, tokens.new_tensor(special))
    corrupted = tokens.masked_fill(chosen & (draw[1] < 0.8), mask)
    return torch.where(chosen & (draw[1] >= 0.9), others, corrupted), chosen


@torch.no_grad()
def start(layer: nn.Module, *, spread: float = 0.02) -> None:
    """Linear maps and tables from a normal distribution of deviation ``spread``; biases, row of padding: zero."""
    if isinstance(layer, nn.Linear | nn.Embedding):
        nn.init.normal_(layer.weight, std=spread)
    if isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        layer.weight[layer.padding_idx] = 0


@pretrainable
def bert(variant: str, *, vocabulary: int = 30_522, **overrides: Any) -> BERT:
    """BERT by the name of a variant, with the vocabulary of the uncased models; ``overrides`` as ``BERT`` takes them.

    Raises:
        ValueError: if there is no such variant.
    """
    return BERT(vocabulary, **{**lookup(NAMED, variant), **overrides})


def _check_known(what: str, ids: Tensor, known: int) -> None:
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or ids.is_meta or not ids.numel():
        return
    low, high = ids.min().item(), ids.max().item()
    if low < 0 or high >= known:
        raise ValueError(f"{what}s from {low} to {high}, but known are 0 to {known - 1}: replace the others by [UNK]")
