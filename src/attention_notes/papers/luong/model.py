"""Effective Approaches to Attention-based Neural Machine Translation, Luong et al. 2015, arXiv 1508.04025.

In one sentence: a translator scores its own state against the states of the source, by a product or a small network,
looks at all of them or at a window, and is told at the next step what it made of that look.

Departures: none from the equations. Where the text is silent: words are numbered from 1; a window of local-m that
lies wholly beyond the source gives a context of zeros; local attention computes all scores and masks those outside of
the window, so that it costs no less than the global one; dropout is on what each LSTM layer reads from below, and on
what the last one gives, as Zaremba et al. 2014 have it, whom the paper follows. The sources are reversed by whoever
gives them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.nn.tokens import TokenTable
from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable


class Dot(nn.Module):
    """score(h_t, h_s) = h_tᵀ h_s: no parameters, one matrix product."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def keys(self, memory: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """What of the score does not depend on the target: the states themselves."""
        return memory

    def forward(self, h: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"]) -> Float[Tensor, "b n m"]:
        """All pairs of a target state and a source state."""
        return h @ keys.transpose(1, 2)


class General(nn.Module):
    """score(h_t, h_s) = h_tᵀ W_a h_s; W_a reads the source, once for all target words."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.source = nn.Linear(dim, dim, bias=False)

    def keys(self, memory: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """W_a h_s of every source state."""
        return self.source(memory)

    def forward(self, h: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"]) -> Float[Tensor, "b n m"]:
        """All pairs."""
        return h @ keys.transpose(1, 2)


class Concat(nn.Module):
    """score(h_t, h_s) = v_aᵀ tanh(W_a [h_t; h_s]), with W_a = [``target``, ``source``] of ``c`` rows.

    The product with [h_t; h_s] is the sum of two products, each computed once for a word. The tanh is of each pair.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.target = nn.Linear(dim, dim, bias=False)
        self.source = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, 1, bias=False)

    def keys(self, memory: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """The right half of W_a on every source state."""
        return self.source(memory)

    def forward(self, h: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"]) -> Float[Tensor, "b n m"]:
        """All pairs, by a tensor of ``n m c`` elements."""
        pairs = self.target(h)[:, :, None] + keys[:, None]
        return self.v(pairs.tanh())[..., 0]


class Location(nn.Module):
    """Equation 8, a_t = softmax(W_a h_t): the target's state alone says which place to look at.

    W_a has ``length`` rows. A shorter source has the first of them, and the words of a longer one that lie beyond get
    no weight (footnote of section 3.1).

    Args:
        dim: width ``c`` of the states.
        length: number of places; 50 was the longest sentence of the paper.
    """

    def __init__(self, dim: int, *, length: int = 50) -> None:
        super().__init__()
        self.places = nn.Linear(dim, length, bias=False)

    def keys(self, memory: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """The states, of which only their number matters."""
        return memory

    def forward(self, h: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"]) -> Float[Tensor, "b n m"]:
        """One score for each place, the same whatever stands there."""
        scores, m = self.places(h)[..., : keys.shape[1]], keys.shape[1]
        return F.pad(scores, (0, max(m - scores.shape[-1], 0)), value=float("-inf"))


class Global(nn.Module):
    """Equation 7, a_t(s) = exp score(h_t, h_s) / Σ_s' exp score(h_t, h_s'): all words of the source.

    Args:
        dim: width ``c`` of the states.
        score: makes the score for a width: ``Dot``, ``General``, ``Concat`` or ``Location``.
    """

    def __init__(self, dim: int, *, score: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.score = score(dim)

    def keys(self, memory: Float[Tensor, "b m c"]) -> Float[Tensor, "b m c"]:
        """What the score computes once for a source."""
        return cast("Callable[[Tensor], Tensor]", self.score.keys)(memory)

    def window(
        self, h: Float[Tensor, "b n c"], seen: Bool[Tensor, "b m"], *, start: int
    ) -> tuple[Bool[Tensor, "b #n m"], Float[Tensor, "b n m"] | None]:
        """Where each target word may look, and a factor on its weights, if there is one."""
        return seen[:, None], None

    def forward(
        self,
        h: Float[Tensor, "b n c"],
        memory: Float[Tensor, "b m c"],
        *,
        keys: Float[Tensor, "b m c"] | None = None,
        seen: Bool[Tensor, "b m"] | None = None,
        start: int = 1,
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n m"]]:
        """The contexts c_t = Σ_s a_t(s) h_s, and the weights a_t.

        Args:
            h: the target's states, of words ``start``, ``start + 1``, ...
            memory: the states of the source.
            keys: what ``keys(memory)`` gave, if it is known already.
            seen: True where the source has a word, and not padding.
            start: number of the first target word.

        Raises:
            ValueError: if the states of source and target differ in width.
        """
        if h.shape[-1] != memory.shape[-1]:
            raise ValueError(
                f"target states of width {h.shape[-1]} but source states of width {memory.shape[-1]}: they must agree"
            )
        if seen is None:
            seen = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        allowed, factor = self.window(h, seen, start=start)
        scores = self.score(h, self.keys(memory) if keys is None else keys)
        some = (allowed & (scores > float("-inf"))).any(-1, keepdim=True)
        scores = scores.masked_fill(~allowed, float("-inf")).masked_fill(~some, 0.0)
        weights = scores[:, None].softmax(-1)  # with an axis of one head
        if factor is not None:
            weights = weights * factor[:, None]
        context = (weights @ memory[:, None])[:, 0]
        return context.masked_fill(~some, 0.0), weights[:, 0].masked_fill(~some, 0.0)


class Monotonic(Global):
    """Local-m: word t looks at the source words from p_t - D to p_t + D, with p_t = t.

    Args:
        dim: width ``c`` of the states.
        score: as in ``Global``.
        reach: D, in words; a window has 2 D + 1 of them.

    Raises:
        ValueError: if ``reach`` is below 1.
    """

    def __init__(self, dim: int, *, score: Callable[[int], nn.Module], reach: int = 10) -> None:
        super().__init__(dim, score=score)
        self.reach = check_reach(reach)

    def window(
        self, h: Float[Tensor, "b n c"], seen: Bool[Tensor, "b m"], *, start: int
    ) -> tuple[Bool[Tensor, "b n m"], None]:
        """The words around t."""
        t = torch.arange(start, start + h.shape[1], device=h.device)[None, :, None]
        return seen[:, None] & ((places(seen) - t).abs() <= self.reach), None


class Predictive(Global):
    """Local-p: the model predicts where the window lies, and words far from its middle count less.

        p_t = S sigmoid(v_pᵀ tanh(W_p h_t))                         (9), for S source words
        a_t(s) = align(h_t, h_s) exp(-(s - p_t)² / (2 σ²)),  σ = D/2    (10)

    The weights of a word do not sum to one: the factor comes after the softmax. It gives v_p and W_p a gradient.

    Arguments and errors as in ``Monotonic``.
    """

    def __init__(self, dim: int, *, score: Callable[[int], nn.Module], reach: int = 10) -> None:
        super().__init__(dim, score=score)
        self.reach = check_reach(reach)
        self.hidden = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, 1, bias=False)

    def middle(self, h: Float[Tensor, "b n c"], seen: Bool[Tensor, "b m"]) -> Float[Tensor, "b n 1"]:
        """Equation 9: p_t, a real number from 0 to S."""
        return seen.sum(-1)[:, None, None] * self.v(self.hidden(h).tanh()).sigmoid()

    def window(
        self, h: Float[Tensor, "b n c"], seen: Bool[Tensor, "b m"], *, start: int
    ) -> tuple[Bool[Tensor, "b n m"], Float[Tensor, "b n m"]]:
        """The words around p_t, and the Gaussian of equation 10."""
        away = places(seen) - self.middle(h, seen)
        return seen[:, None] & (away.abs() <= self.reach), (-away.square() / (2 * (self.reach / 2) ** 2)).exp()


def places(seen: Bool[Tensor, "b m"]) -> Int[Tensor, "b 1 m"]:
    """The number of each source word, from 1; padding is not counted."""
    return seen.long().cumsum(-1)[:, None]


def check_reach(reach: int) -> int:
    """Raise ``ValueError`` for a window that may hold no word at all."""
    if reach < 1:
        raise ValueError(f"reach={reach}: a window needs at least 1 word on each side; the paper has 10")
    return reach


State = list[tuple[Tensor, Tensor]]  # hidden and cell of each layer


class Stack(nn.Module):
    """A stack of LSTM layers, one word at a time.

    Args:
        wide: width of what the first layer reads.
        dim: width ``c`` of the states.
        layers: how many.
        dropout: on what a layer reads from below, and on what the last one gives.
    """

    def __init__(self, wide: int, *, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        cells = [nn.LSTMCell(dim if i else wide, dim) for i in range(layers)]
        self.cells = cast("Sequence[nn.LSTMCell]", nn.ModuleList(cells))
        self.dropout = nn.Dropout(dropout)

    def start(self, x: Float[Tensor, "b w"]) -> State:
        """States of zeros, for texts that begin with ``x``."""
        return [(x.new_zeros(x.shape[0], cell.hidden_size),) * 2 for cell in self.cells]

    def forward(self, x: Float[Tensor, "b w"], state: State) -> tuple[Float[Tensor, "b c"], State]:
        """The state of the last layer after one more word, and those of all layers."""
        after = []
        for cell, before in zip(self.cells, state, strict=True):
            x, c = cell(self.dropout(x), before)
            after.append((x, c))
        return self.dropout(x), after


class Encoder(nn.Module):
    """Reads the source word by word; padding leaves the states as they were.

    Args:
        vocabulary: number of tokens.
        dim: width ``c``.
        padding: the token that fills short texts.
        sizes: ``layers`` and ``dropout`` of the stack.
    """

    def __init__(self, vocabulary: int, *, dim: int, padding: int, **sizes: Any) -> None:
        super().__init__()
        self.embedding = TokenTable(vocabulary, dim, padding_idx=padding)
        self.stack = Stack(dim, dim=dim, **sizes)

    def forward(self, source: Int[Tensor, "b m"], seen: Bool[Tensor, "b m"]) -> tuple[Float[Tensor, "b m c"], State]:
        """The last layer's state after each word, and the states of all layers after all words."""
        x, memory = self.embedding(source), []
        state = self.stack.start(x[:, 0])
        for word, real in zip(x.unbind(1), seen[..., None].unbind(1), strict=True):
            h, after = self.stack(word, state)
            memory.append(h)
            state = [
                (torch.where(real, new[0], old[0]), torch.where(real, new[1], old[1]))
                for new, old in zip(after, state, strict=True)
            ]
        return torch.stack(memory, 1), state


class Source(NamedTuple):
    """What the decoder may look at: the states of all words, what the score made of them, and which are words."""

    memory: Float[Tensor, "b m c"]
    keys: Float[Tensor, "b m c"]
    seen: Bool[Tensor, "b m"]

    def reorder(self, rows: Int[Tensor, " k"]) -> "Source":
        """These texts, in this order."""
        return Source(*(x[rows] for x in self))


class Step(NamedTuple):
    """Where the decoder stands after ``word`` words: h̃ of the last, the states of all layers, and the last weights."""

    fed: Float[Tensor, "b c"]
    state: State
    weights: Float[Tensor, "b m"]
    word: int = 0

    def reorder(self, rows: Int[Tensor, " k"]) -> "Step":
        """These texts, in this order."""
        return Step(self.fed[rows], [(h[rows], c[rows]) for h, c in self.state], self.weights[rows], self.word)


class Decoder(nn.Module):
    """Writes the target word by word.

        h_t  = LSTM([y_{t-1}; h̃_{t-1}], h_{t-1})     input feeding, section 3.3; without it LSTM(y_{t-1}, h_{t-1})
        h̃_t = tanh(W_c [c_t; h_t])                   (5)
        p(y_t | ...) = softmax(W_s h̃_t)              (6)

    Args:
        vocabulary: number of tokens.
        dim: width ``c``.
        attention: makes the attention for a width, as ``partial(Global, score=Dot)``.
        feeding: whether the attentional state is given to the next step.
        padding: the token that fills short texts.
        sizes: ``layers`` and ``dropout`` of the stack.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dim: int,
        attention: Callable[[int], Global],
        feeding: bool,
        padding: int,
        **sizes: Any,
    ) -> None:
        super().__init__()
        self.feeding = feeding
        self.embedding = TokenTable(vocabulary, dim, padding_idx=padding)
        self.stack = Stack(2 * dim if feeding else dim, dim=dim, **sizes)
        self.attention = attention(dim)
        self.combine = nn.Linear(2 * dim, dim, bias=False)
        self.output = nn.Linear(dim, vocabulary, bias=False)

    def forward(self, tokens: Int[Tensor, " b"], source: Source, before: Step) -> Step:
        """One word more; ``output`` of its h̃ has the logits of the word after it."""
        x, word = self.embedding(tokens), before.word + 1
        h, state = self.stack(torch.cat([x, before.fed], -1) if self.feeding else x, before.state)
        context, weights = self.attention(h[:, None], source.memory, keys=source.keys, seen=source.seen, start=word)
        return Step(self.combine(torch.cat([context[:, 0], h], -1)).tanh(), state, weights[:, 0], word)


class Translator(nn.Module):
    """Figure 2: the encoder reads the source, the decoder attends to its states and writes the target."""

    def __init__(self, encoder: Encoder, decoder: Decoder, *, padding: int = 0) -> None:
        super().__init__()
        self.encoder, self.decoder, self.padding = encoder, decoder, padding

    def forward(self, source: Int[Tensor, "b m"], target: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits for the token after each target token (teacher forcing), one step after the other."""
        return torch.stack([self.decoder.output(step.fed) for step in self._steps(source, target)], 1)

    def align(self, source: Int[Tensor, "b m"], target: Int[Tensor, "b n"]) -> Float[Tensor, "b n m"]:
        """The weights with which each target token's step looked at the source."""
        return torch.stack([step.weights for step in self._steps(source, target)], 1)

    def _steps(self, source: Int[Tensor, "b m"], target: Int[Tensor, "b n"]) -> list[Step]:
        """Where the decoder stands after each target token."""
        read, step = self.read(source)
        steps = []
        for tokens in target.unbind(1):
            step = self.decoder(tokens, read, step)
            steps.append(step)
        return steps

    def read(self, source: Int[Tensor, "b m"]) -> tuple[Source, Step]:
        """Encode the source: what the decoder may look at, and where it stands before the first word.

        Raises:
            ValueError: for tokens that are no batch.
        """
        if source.ndim != 2:
            hint = ": for one sequence, give it tokens[None]" if source.ndim == 1 else ""
            raise ValueError(f"tokens of shape {tuple(source.shape)}, but the model reads batches 'b m'{hint}")
        seen = source.ne(self.padding)
        memory, state = self.encoder(source, seen)
        before = Step(torch.zeros_like(memory[:, 0]), state, torch.zeros_like(memory[..., 0]))
        return Source(memory, self.decoder.attention.keys(memory), seen), before

    def begin(self, source: Int[Tensor, "b m"]) -> "Decoding":
        """The state from which a translation of the source can be written token by token; errors as in ``read``."""
        return Decoding(self, source)


class Decoding:
    """A translation part of the way, a ``nn.decoding.DecodingState``: the source, and the last step."""

    def __init__(self, model: Translator, source: Int[Tensor, "b m"]) -> None:
        self.decoder = model.decoder
        self.source, self.last = model.read(source)

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one token to each text; returns the logits of the token after it."""
        self.last = self.decoder(tokens, self.source, self.last)
        return self.decoder.output(self.last.fed)

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these texts, in this order."""
        self.source, self.last = self.source.reorder(rows), self.last.reorder(rows)


# Table 4, with the sizes of section 4.1. Scores there are location, dot and general; concat is in the text only.
_SIZES: dict[str, Any] = {"layers": 4, "dim": 1000, "dropout": 0.2, "feeding": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "global_location": {"attention": partial(Global, score=Location), **_SIZES},
    "global_dot": {"attention": partial(Global, score=Dot), **_SIZES},
    "global_general": {"attention": partial(Global, score=General), **_SIZES},
    "local_m_general": {"attention": partial(Monotonic, score=General), **_SIZES},
    "local_p_dot": {"attention": partial(Predictive, score=Dot), **_SIZES},
    "local_p_general": {"attention": partial(Predictive, score=General), **_SIZES},
}


@pretrainable
def luong(name: str, *, vocabulary: int, padding: int = 0, **overrides: Any) -> Translator:
    """Build a model of Table 4, as ``luong("global_dot", vocabulary=50000, layers=1)``.

    All parameters start uniform between -0.1 and 0.1 (section 4.1); the rows of the padding token are zero.

    Args:
        name: a row of ``VARIANTS``.
        vocabulary: number of tokens of the source, and of the target; each language has its own table.
        padding: the token that fills short texts.
        overrides: other ``layers``, ``dim``, ``dropout``, ``feeding``, ``attention``.

    Raises:
        ValueError: if the name or an override is unknown.
    """
    row = lookup(VARIANTS, name)
    if unknown := overrides.keys() - row.keys():
        raise ValueError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    sizes = {**row, **overrides}
    attention, feeding = sizes.pop("attention"), sizes.pop("feeding")
    encoder = Encoder(vocabulary, padding=padding, **sizes)
    decoder = Decoder(vocabulary, attention=attention, feeding=feeding, padding=padding, **sizes)
    model = Translator(encoder, decoder, padding=padding)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.1, 0.1)
        for table in (encoder.embedding, decoder.embedding):
            table.weight[padding].zero_()
    return model
