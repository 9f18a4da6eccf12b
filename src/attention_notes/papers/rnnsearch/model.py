"""Neural Machine Translation by Jointly Learning to Align and Translate, Bahdanau, Cho, Bengio 2015, arXiv 1409.0473.

In one sentence: the encoder keeps a vector for every source token, and before each target token a small network scores
them against the decoder's state, so that the decoder reads an average of them that is weighted anew for each token.

Departures:
    - The equations are those of the appendix. In the authors' code (GroundHog at 4d2433b, experiments/nmt/encdec.py) a
      state reads the word with the context that was chosen for it, so that the state that scores for word i has read
      word i - 1; in the equations it has read no word later than i - 2.
    - Biases, which the equations leave out "to increase readability", stand once in each sum of maps but the score's;
      the authors' code has none in the gates, and one on the embeddings. Nothing is read before the first target token
      there; here callers give a start token.
    - ``FixedContext``, for comparison, gives the last states of both directions; the paper's remark in A.2.2 fixes the
      context to the forward one.
    - ``ResetAfter``, the gated unit of PyTorch and cuDNN, is offered beside the paper's. They are different functions:
      weights of one are none of the other. ``GatedUnit`` is the default because it is what the paper writes.
      ``ResetAfter`` has a second bias, as PyTorch's has.
    - ``start=None`` leaves what PyTorch draws; the start of Appendix B.1 is made for long trainings with Adadelta.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.nn.decoding import greedy
from attention_notes.nn.tokens import TokenTable
from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable

# Appendix A.2.3: n, m, n' and l. The paper's four trainings have one size; 30 and 50 are lengths of sentences.
VARIANTS: Mapping[str, dict[str, Any]] = {
    "rnnsearch": {"dim": 1000, "embedding": 620, "alignment": 1000, "maxout": 500},
}


class GatedUnit(nn.Module):
    """The gated hidden unit of Cho et al. (Appendix A.1.1): the reset gate acts before the matrix.

        s_i = (1 - z) ∘ s_{i-1} + z ∘ s̃,   s̃ = tanh(x + U [r ∘ s_{i-1}])
        z = σ(x_z + U_z s_{i-1}),   r = σ(x_r + U_r s_{i-1})

    ``x_z``, ``x_r``, ``x`` are what the inputs add, W e(y) + C c with three matrices each, one after the other.

    Args:
        dim: number of units n.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(dim, 2 * dim, bias=False)
        self.candidate = nn.Linear(dim, dim, bias=False)

    def forward(self, inputs: Float[Tensor, "b g"], state: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The next state; ``g`` is three times ``n``."""
        dim = state.shape[-1]
        update, reset = (inputs[:, : 2 * dim] + self.gates(state)).sigmoid().chunk(2, -1)
        proposed = (inputs[:, 2 * dim :] + self.candidate(reset * state)).tanh()
        return (1 - update) * state + update * proposed


class ResetAfter(nn.Module):
    """The gated unit of PyTorch and cuDNN: the reset gate acts after the matrix, so that one product does for all.

        s̃ = tanh(x + r ∘ (U s_{i-1} + b)),   all else as in ``GatedUnit``

    PyTorch's z is the share of the *old* state: its rows and biases of z change their sign.

    Args:
        dim: number of units n.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.recurrent = nn.Linear(dim, 3 * dim)

    def forward(self, inputs: Float[Tensor, "b g"], state: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The next state; ``g`` is three times ``n``."""
        (x_z, x_r, x), (s_z, s_r, s) = inputs.chunk(3, -1), self.recurrent(state).chunk(3, -1)
        update, reset = (x_z + s_z).sigmoid(), (x_r + s_r).sigmoid()
        return (1 - update) * state + update * (x + reset * s).tanh()


Unit = Callable[[int], nn.Module]


class Recurrent(nn.Module):
    """A recurrent network over one direction of a text, from a state of zeros; padding leaves the state as it is.

    Args:
        embedding: width m of the vectors that it reads.
        dim: number of units n.
        unit: makes the unit, as ``GatedUnit``.
        backwards: whether it reads from the end.
    """

    def __init__(self, embedding: int, *, dim: int, unit: Unit = GatedUnit, backwards: bool = False) -> None:
        super().__init__()
        self.dim, self.backwards = dim, backwards
        self.word = nn.Linear(embedding, 3 * dim)
        self.unit = unit(dim)

    def forward(self, x: Float[Tensor, "b m e"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b m n"]:
        """The state at every token, in the order of the text."""
        words, state = self.word(x).unbind(1), x.new_zeros(x.shape[0], self.dim)
        states: list[Tensor] = []
        for i in reversed(range(len(words))) if self.backwards else range(len(words)):
            state = torch.where(present[:, i, None], self.unit(words[i], state), state)
            states.append(state)
        return torch.stack(states[::-1] if self.backwards else states, 1)


class Encoder(nn.Module):
    """Section 3.2 and equation 7: the annotation of a token, h_j = [→h_j; ←h_j], holds both sides of it.

    Args:
        vocabulary: number of source tokens.
        embedding: width m of their vectors.
        dim: number of units n of each direction; annotations have width 2n.
        padding: the token that fills short texts.
        unit: makes the units.
    """

    def __init__(self, vocabulary: int, *, embedding: int, dim: int, padding: int = 0, unit: Unit = GatedUnit) -> None:
        super().__init__()
        self.tokens = TokenTable(vocabulary, embedding, padding_idx=padding)
        self.forwards = Recurrent(embedding, dim=dim, unit=unit)
        self.backwards = Recurrent(embedding, dim=dim, unit=unit, backwards=True)

    def forward(self, source: Int[Tensor, "b m"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b m c"]:
        """One annotation for each token. On padding stand the states that were reached before it."""
        x = self.tokens(source)
        return torch.cat([self.forwards(x, present), self.backwards(x, present)], -1)


class AdditiveAttention(nn.Module):
    """A network of one hidden layer scores every annotation (Appendix A.1.2), and their average is read.

        e_ij = v_aᵀ tanh(W_a s_{i-1} + U_a h_j)     α_i = softmax(e_i)     c_i = Σ_j α_ij h_j

    U_a h_j does not depend on i: ``keys`` computes it once for a text.

    Args:
        dim: width n of the queries, the states s.
        annotations: width of the annotations h.
        hidden: width n' of the hidden layer.
    """

    def __init__(self, dim: int, *, annotations: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, hidden, bias=False)  # W_a
        self.key = nn.Linear(annotations, hidden, bias=False)  # U_a
        self.score = nn.Linear(hidden, 1, bias=False)  # v_a

    def keys(self, annotations: Float[Tensor, "b m c"]) -> Float[Tensor, "b m k"]:
        """U_a h_j, the part of the work that no query changes."""
        return self.key(annotations)

    def scores(self, queries: Float[Tensor, "b n d"], keys: Float[Tensor, "b m k"]) -> Float[Tensor, "b n m"]:
        """e_ij for ``n`` queries and ``m`` keys."""
        return self.score((self.query(queries)[:, :, None] + keys[:, None]).tanh())[..., 0]

    def forward(
        self,
        queries: Float[Tensor, "b n d"],
        keys: Float[Tensor, "b m k"],
        annotations: Float[Tensor, "b m c"],
        present: Bool[Tensor, "b m"],
    ) -> Float[Tensor, "b n c"]:
        """The contexts of ``n`` queries; a token that is not present has weight zero."""
        scores = self.scores(queries, keys)
        least = torch.finfo(scores.dtype).min  # finite: of a text without tokens all annotations are zero
        weights = scores.masked_fill(~present[:, None], least)[:, None].softmax(-1)  # one head
        return (weights @ annotations[:, None])[:, 0]


class FixedContext(nn.Module):
    """No attention: every query gets [→h_m; ←h_1], the states that each direction ends with.

    "The model becomes RNN Encoder-Decoder (Cho et al., 2014a), if we fix c_i" (A.2.2). Arguments as in
    ``AdditiveAttention``; there are no parameters.
    """

    def __init__(self, dim: int, *, annotations: int, hidden: int) -> None:
        super().__init__()

    def keys(self, annotations: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """Nothing to compute."""
        return annotations

    def forward(
        self,
        queries: Float[Tensor, "b n d"],
        keys: Float[Tensor, "b m k"],
        annotations: Float[Tensor, "b m c"],
        present: Bool[Tensor, "b m"],
    ) -> Float[Tensor, "b n c"]:
        """The same for each of ``n`` queries."""
        forwards, backwards = annotations.chunk(2, -1)
        ends = torch.cat([forwards[:, -1:], backwards[:, :1]], -1)  # over padding a state is kept
        return ends.expand(-1, queries.shape[1], -1)


class Readout(nn.Module):
    """The logits of the next token, by one layer of maxout units (A.2.2).

        t̃_i = U_o s_{i-1} + V_o e(y_{i-1}) + C_o c_i     t_ij = max(t̃_{i,2j-1}, t̃_{i,2j})     logits W_o t_i

    The appendix reads s_{i-1} here, where equation 4 has s_i; this is the appendix.

    Args:
        vocabulary: number of target tokens.
        dim: width n of the state.
        embedding: width m of the token before.
        annotations: width of the context.
        maxout: number l of maxout units.
    """

    def __init__(self, vocabulary: int, *, dim: int, embedding: int, annotations: int, maxout: int) -> None:
        super().__init__()
        self.state = nn.Linear(dim, 2 * maxout)
        self.word = nn.Linear(embedding, 2 * maxout, bias=False)
        self.context = nn.Linear(annotations, 2 * maxout, bias=False)
        self.output = nn.Linear(maxout, vocabulary)

    def forward(
        self, state: Float[Tensor, "*b n"], word: Float[Tensor, "*b e"], context: Float[Tensor, "*b c"]
    ) -> Float[Tensor, "*b v"]:
        """A score for each token of the vocabulary."""
        pairs = self.state(state) + self.word(word) + self.context(context)
        return self.output(torch.maximum(pairs[..., ::2], pairs[..., 1::2]))


class Decoder(nn.Module):
    """Section 3.1: read the source through attention, say how likely each next token is, take the written one in.

    Args:
        vocabulary: number of target tokens.
        dim: number of units n.
        embedding: width m of the tokens' vectors.
        alignment: width n' of the alignment model.
        maxout: number l of maxout units.
        padding: the token that fills short texts.
        unit: makes the unit.
        attention: makes the attention, as ``AdditiveAttention``.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dim: int,
        embedding: int,
        alignment: int,
        maxout: int,
        padding: int = 0,
        unit: Unit = GatedUnit,
        attention: Callable[..., nn.Module] = AdditiveAttention,
    ) -> None:
        super().__init__()
        self.tokens = TokenTable(vocabulary, embedding, padding_idx=padding)
        self.first = nn.Linear(dim, dim)  # W_s
        self.attention = cast("AdditiveAttention", attention(dim, annotations=2 * dim, hidden=alignment))
        self.word = nn.Linear(embedding, 3 * dim)
        self.context = nn.Linear(2 * dim, 3 * dim, bias=False)
        self.unit = unit(dim)
        self.readout = Readout(vocabulary, dim=dim, embedding=embedding, annotations=2 * dim, maxout=maxout)

    def begin(self, annotations: Float[Tensor, "b m c"]) -> Float[Tensor, "b n"]:
        """s_0 = tanh(W_s ←h_1)."""
        return self.first(annotations[:, 0].chunk(2, -1)[1]).tanh()

    def forward(
        self, target: Int[Tensor, "b n"], annotations: Float[Tensor, "b m c"], present: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b n v"]:
        """Logits for the token after each target token (teacher forcing): the states one by one, then all outputs."""
        words = self.tokens(target)
        inputs, keys = self.word(words).unbind(1), self.attention.keys(annotations)
        states, contexts = [self.begin(annotations)], []
        for word in inputs:
            contexts.append(self.attention(states[-1][:, None], keys, annotations, present)[:, 0])
            states.append(self.unit(word + self.context(contexts[-1]), states[-1]))
        return self.readout(torch.stack(states[:-1], 1), words, torch.stack(contexts, 1))


class RNNsearch(nn.Module):
    """Figure 1: a bidirectional encoder, and a decoder that searches through its annotations.

    Args:
        vocabulary: number of tokens in each of both languages, padding included; each has an embedding of its own.
        dim: number of units n of the decoder, and of each direction of the encoder.
        embedding: width m of the tokens' vectors.
        alignment: width n' of the alignment model.
        maxout: number l of maxout units before the output.
        padding: the token that fills short texts, on the right.
        unit: makes the units: ``GatedUnit``, the paper's, or ``ResetAfter``.
        attention: ``AdditiveAttention``, or ``FixedContext`` for a model without.
        start: draws the first weights, as ``as_published``; ``None`` leaves those of PyTorch's layers.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dim: int,
        embedding: int,
        alignment: int,
        maxout: int,
        padding: int = 0,
        unit: Unit = GatedUnit,
        attention: Callable[..., nn.Module] = AdditiveAttention,
        start: Callable[[nn.Module], object] | None = None,
    ) -> None:
        super().__init__()
        self.padding = padding
        shared: dict[str, Any] = {"dim": dim, "embedding": embedding, "padding": padding, "unit": unit}
        self.encoder = Encoder(vocabulary, **shared)
        self.decoder = Decoder(vocabulary, alignment=alignment, maxout=maxout, attention=attention, **shared)
        if start is not None:
            start(self)

    def forward(self, source: Int[Tensor, "b m"], target: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits for the token after each target token; padding is never read.

        Under ``record_attention`` each target token adds one map, ``b 1 1 m``; ``alignments`` puts them together.

        Raises:
            ValueError: for tokens that are no batch, or batches of different size.
        """
        present = self.present(source)
        if self.present(target).shape[0] != source.shape[0]:
            raise ValueError(f"{source.shape[0]} sources but {target.shape[0]} targets: each source needs one target")
        return self.decoder(target, self.encoder(source, present), present)

    def present(self, tokens: Int[Tensor, "b m"]) -> Bool[Tensor, "b m"]:
        """Where there is a token and not padding. Raises ``ValueError`` for tokens that are no batch."""
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            hint = ": for one sequence, give it tokens[None]" if tokens.ndim == 1 else ""
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}, but the model reads batches 'b n'{hint}")
        return tokens.ne(self.padding)

    def begin(self, source: Int[Tensor, "b m"]) -> "Decoding":
        """Encode the source; the state from which its translation can be written token by token."""
        return Decoding(self, source)

    def greedy(self, source: Int[Tensor, "b m"], *, start: int, end: int, limit: int) -> Int[Tensor, "b n"]:
        """The likeliest token, then the likeliest after it, as ``nn.decoding.greedy`` has it; errors as there."""
        with torch.no_grad():
            state = self.begin(source)
        first = torch.full_like(source[:, 0], start)
        return greedy(state, first, end=end, limit=limit, padding=self.padding)


class Decoding:
    """A translation part of the way: the annotations with their keys, and the decoder's state.

    A ``nn.decoding.DecodingState``.
    """

    def __init__(self, model: RNNsearch, source: Int[Tensor, "b m"]) -> None:
        self.decoder = model.decoder
        self.present = model.present(source)
        self.annotations = model.encoder(source, self.present)
        self.keys = self.decoder.attention.keys(self.annotations)
        self.state = self.decoder.begin(self.annotations)

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one token to each text; returns the logits of the token after it."""
        decoder, word = self.decoder, self.decoder.tokens(tokens)
        context = decoder.attention(self.state[:, None], self.keys, self.annotations, self.present)[:, 0]
        logits = decoder.readout(self.state, word, context)
        self.state = decoder.unit(decoder.word(word) + decoder.context(context), self.state)
        return logits

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these texts, in this order."""
        self.present, self.annotations, self.keys, self.state = (
            x[rows] for x in (self.present, self.annotations, self.keys, self.state)
        )


def alignments(maps: Mapping[str, Tensor]) -> Float[Tensor, "b n m"]:
    """The weights α of one forward pass, a row for each target token, from what ``record_attention`` has recorded."""
    return torch.cat([*maps.values()], 2)[:, 0]


@torch.no_grad()
def as_published(model: nn.Module) -> nn.Module:
    """The start of Appendix B.1, in place: v_a and biases zero, so that every weight α is one over the length at first.

    Recurrent matrices are random orthogonal, W_a and U_a Gaussian with deviation 0.001, all others with 0.01.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, AdditiveAttention):
            nn.init.zeros_(module.score.weight)
            for linear in (module.query, module.key):
                nn.init.normal_(linear.weight, std=0.001)
        elif isinstance(module, GatedUnit):
            for matrix in (*module.gates.weight.chunk(2), module.candidate.weight):
                nn.init.orthogonal_(matrix)
        elif isinstance(module, ResetAfter):
            for matrix in module.recurrent.weight.chunk(3):
                nn.init.orthogonal_(matrix)
    return model


@pretrainable
def rnnsearch(
    name: str,
    *,
    vocabulary: int,
    padding: int = 0,
    unit: Unit = GatedUnit,
    attention: Callable[..., nn.Module] = AdditiveAttention,
    start: Callable[[nn.Module], object] | None = as_published,
    **overrides: int,
) -> RNNsearch:
    """Build a model of Appendix A.2.3, as ``rnnsearch("rnnsearch", vocabulary=30_000)``.

    Args:
        name: a row of ``VARIANTS``.
        vocabulary: number of tokens in each language.
        padding: the padding token.
        unit: as in ``RNNsearch``.
        attention: as in ``RNNsearch``.
        start: as in ``RNNsearch``; here the paper's, if nothing else is asked for.
        overrides: other ``dim``, ``embedding``, ``alignment``, ``maxout``.

    Raises:
        ValueError: if the name or an override is unknown.
    """
    row = lookup(VARIANTS, name)
    if unknown := overrides.keys() - row.keys():
        raise ValueError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    parts: dict[str, Any] = {"padding": padding, "unit": unit, "attention": attention, "start": start}
    return RNNsearch(vocabulary, **{**row, **overrides}, **parts)
