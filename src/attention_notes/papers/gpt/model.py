"""Improving Language Understanding by Generative Pre-Training, Radford et al. 2018; with GPT-2, Radford et al. 2019,
Language Models are Unsupervised Multitask Learners. Neither is on arXiv.

In one sentence: the Transformer's decoder without its encoder, trained to predict the next token of any text, so that
every task that can be written as the beginning of a text can be given to it.

Departures: where the papers are silent, as ``transformers`` has it. GELU is the approximation with tanh in both.
GPT-2's positions start with deviation 0.02 and the last map of each branch with 0.02 / sqrt(2 layers), which is the
paper's 1 / sqrt(N) for N residual branches. Texts of a batch have one length: there is no padding. The heads of GPT's
tasks are not here.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.nn.attention import MultiHeadAttention
from attention_notes.nn.decoding import greedy
from attention_notes.nn.keys_values import KeysValues
from attention_notes.nn.mlp import MLP
from attention_notes.nn.tokens import TokenTable
from attention_notes.nn.variants import lookup
from attention_notes.papers.transformer import PostNorm, PreNorm
from attention_notes.weights.pretrained import pretrainable

Residual = type[PostNorm] | type[PreNorm]

# GPT: section 4.1, "Model specifications". GPT-2: Table 2, section 2.3, and the heads of the authors' hparams.json.
_GPT2 = {"residual": PreNorm, "shrink": True, "vocabulary": 50_257, "context": 1024, "dropout": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "GPT": {
        "residual": PostNorm,
        "shrink": False,
        "vocabulary": 40_478,
        "context": 512,
        "dropout": 0.1,
        "layers": 12,
        "dim": 768,
        "heads": 12,
    },
    "GPT-2": {**_GPT2, "layers": 12, "dim": 768, "heads": 12},
    "GPT-2 medium": {**_GPT2, "layers": 24, "dim": 1024, "heads": 16},
    "GPT-2 large": {**_GPT2, "layers": 36, "dim": 1280, "heads": 20},
    "GPT-2 XL": {**_GPT2, "layers": 48, "dim": 1600, "heads": 25},
}


class Layer(nn.Module):
    """The Transformer's decoder layer without its attention to a source: masked self-attention, then the perceptron.

    Args:
        dim: width ``c`` of the tokens.
        heads: number of heads; must divide ``dim``.
        residual: ``PostNorm`` in GPT, ``PreNorm`` in GPT-2.
        dropout: on each branch and on the weights of the attention.
    """

    def __init__(self, dim: int, *, heads: int, residual: Residual, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads=heads, attention_dropout=dropout)
        self.mlp = MLP(dim, hidden=4 * dim, activation=partial(nn.GELU, approximate="tanh"))
        self.residuals = nn.ModuleList(residual(dim, dropout=dropout) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "b n c"], *, mask: Bool[Tensor, "n m"] | None, cache: KeysValues | None = None
    ) -> Float[Tensor, "b n c"]:
        """One layer; ``mask``: to which of the ``m`` tokens read so far each of the ``n`` new ones may attend."""
        x = self.residuals[0](x, lambda x: self.attend(x, mask=mask, cache=cache))
        return self.residuals[1](x, self.mlp)

    def attend(
        self, x: Float[Tensor, "b n c"], *, mask: Bool[Tensor, "n m"] | None, cache: KeysValues | None
    ) -> Float[Tensor, "b n c"]:
        """Masked attention to all that is read, the new tokens and those of the cache, which grows by them."""
        new = self.attention.keys_values(x)
        return self.attention.attend(x, *(new if cache is None else cache.extend(*new)), mask=mask)


class GPT(nn.Module):
    """A language model, equation 2 of GPT, for tokens U, their matrix W_e and the positions' W_p.

        h_0 = U W_e + W_p,   h_l = layer_l(h_{l-1}),   P(u) = softmax(h_L W_e^T)

    GPT-2 normalises what each branch reads instead of each sum, and once more before the output.

    Args:
        vocabulary: number of tokens ``v``.
        context: the largest number of tokens of a text.
        layers: number of layers.
        dim: width ``c`` of the tokens.
        heads: number of heads; must divide ``dim``.
        residual: ``PostNorm`` in GPT, ``PreNorm`` in GPT-2.
        shrink: whether the last map of each branch starts smaller, by the root of the number of branches (GPT-2).
        dropout: on embeddings, branches and weights of the attention.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``, or if a size is below 1.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        context: int,
        layers: int,
        dim: int,
        heads: int,
        residual: Residual = PreNorm,
        shrink: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(vocabulary, context, layers, dim) < 1:
            raise ValueError(
                f"vocabulary={vocabulary}, context={context}, layers={layers}, dim={dim}: all must be 1 or more"
            )
        self.tokens = TokenTable(vocabulary, dim)
        self.positions = nn.Embedding(context, dim)
        self.dropout = nn.Dropout(dropout)
        made = (Layer(dim, heads=heads, residual=residual, dropout=dropout) for _ in range(layers))
        self.layers = cast("Sequence[Layer]", nn.ModuleList(made))
        self.last = residual.last(dim)
        self._initialise((2 * layers) ** -0.5 if shrink else 1.0)

    def _initialise(self, factor: float) -> None:
        """Deviation 0.02 (section 4.1 of GPT), biases zero; the last map of each branch has ``factor`` of it."""
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
        for layer in self.layers:
            for end in (layer.attention.output, layer.mlp.contract):
                nn.init.normal_(end.weight, std=0.02 * factor)

    def forward(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits for the token after each token.

        Raises:
            ValueError: for tokens that are no batch, none, too many, or not in the vocabulary.
        """
        return self.logits(self.hidden(tokens))

    def hidden(self, tokens: Int[Tensor, "b n"], caches: Sequence[KeysValues] | None = None) -> Float[Tensor, "b n c"]:
        """What the last layer makes of the tokens; they go on from those in ``caches``, which grow by them."""
        if tokens.ndim != 2:
            hint = ": for one text, give it tokens[None]" if tokens.ndim == 1 else ""
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}, but the model reads batches 'b n'{hint}")
        if tokens.shape[1] < 1:
            raise ValueError("an empty text: give at least one token, such as that between two texts")
        before = 0 if caches is None else caches[0].length
        total = before + tokens.shape[1]
        if total > self.positions.num_embeddings:
            raise ValueError(
                f"a text of {total} tokens, but there are {self.positions.num_embeddings} positions: "
                f"cut it, or build and train the model with context={total}"
            )
        x = self.dropout(self.embed(tokens) + self.positions.weight[before:total])
        alone = tokens.shape[1] == 1  # one new token attends to all, so it needs no mask
        mask = None if alone else torch.ones(total - before, total, dtype=torch.bool, device=tokens.device).tril(before)
        for i, layer in enumerate(self.layers):
            x = layer(x, mask=mask, cache=None if caches is None else caches[i])
        return self.last(x)

    def embed(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """The rows of the tokens in W_e."""
        return self.tokens(tokens)

    def logits(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n v"]:
        """The score of each token of the vocabulary: the product with its row of W_e."""
        return x @ self.tokens.weight.T

    def begin(self, prompt: Int[Tensor, "b n"]) -> "Decoding":
        """Read a prompt, which may be empty; the state from which it can be continued token by token."""
        return Decoding(self, prompt)

    def greedy(self, prompt: Int[Tensor, "b n"], *, end: int, limit: int) -> Int[Tensor, "b k"]:
        """What follows the prompt, always the likeliest token, as ``nn.decoding.greedy`` has it.

        Raises:
            ValueError: if the prompt is empty, if ``limit`` is below 1, or where the text becomes too long.
        """
        if prompt.shape[-1] < 1:
            raise ValueError("an empty prompt: give at least one token, such as that between two texts")
        with torch.no_grad():
            state = self.begin(prompt[:, :-1])
        return greedy(state, prompt[:, -1], end=end, limit=limit, padding=end)


class Decoding:
    """A text part of the way: the keys and values of what is read and written are kept. A ``DecodingState``."""

    def __init__(self, model: GPT, prompt: Int[Tensor, "b n"]) -> None:
        self.model = model
        self.caches = [KeysValues() for _ in model.layers]
        if prompt.shape[-1]:
            model.hidden(prompt, self.caches)

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one token to each text; returns the logits of the token after it."""
        return self.model.logits(self.model.hidden(tokens[:, None], self.caches))[:, 0]

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these texts, in this order."""
        for cache in self.caches:
            cache.reorder(rows)


@pretrainable
def gpt(name: str, **overrides: Any) -> GPT:
    """Build a model of the papers, as ``gpt("GPT-2", layers=2, vocabulary=256)``.

    Args:
        name: a row of ``VARIANTS``.
        overrides: other ``vocabulary``, ``context``, ``layers``, ``dim``, ``heads``, ``dropout``, ``residual``,
            ``shrink``.

    Raises:
        ValueError: if the name or an override is unknown, or if ``heads`` does not divide ``dim``.
    """
    row = lookup(VARIANTS, name)
    if unknown := overrides.keys() - row.keys():
        raise ValueError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    return GPT(**{**row, **overrides})
