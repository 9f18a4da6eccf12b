"""Sequence to Sequence Learning with Neural Networks, Sutskever, Vinyals and Le 2014, arXiv 1409.3215.

In one sentence: a deep LSTM reads the source, last token first, into a vector of fixed size, and another deep LSTM that
starts from this vector writes the target, so that neither side needs to be as long as the other.

Departures:
    - No connections from the cell to the gates, which the LSTM of Graves 2013 (arXiv 1308.0850), to which the paper
      refers, has. Two biases a gate, as in PyTorch, so that weights are those of ``nn.LSTM``.
    - The end of the source is not read as a token of its own. Callers reverse their sources, with ``reverse``.
    - ``FusedLSTM`` runs PyTorch's kernels on the same weights, for speed; the tests hold it equal to ``LSTM``.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attention_notes.nn.tokens import TokenTable
from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable

# Section 3.4.
VARIANTS: dict[str, dict[str, Any]] = {
    "wmt14": {"layers": 4, "dim": 1000, "hidden": 1000, "source_vocabulary": 160_000, "target_vocabulary": 80_000},
}

State = tuple[Tensor, Tensor]  # h and c, each "b c" in a cell and "l b c" in a stack of l layers
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def lstm_step(x: Float[Tensor, "b d"], state: State, weights: tuple[Tensor, ...]) -> State:
    """One step of time; ``weights`` are those of ``NAMES``, each with the rows of i, f, g and o one after another.

    i = σ(W_i x + U_i h + b_i)      f = σ(W_f x + U_f h + b_f)      o = σ(W_o x + U_o h + b_o)
    g = tanh(W_g x + U_g h + b_g)   c' = f c + i g                  h' = o tanh(c')
    """
    h, c = state
    w, u, b_w, b_u = weights
    i, f, g, o = (F.linear(x, w, b_w) + F.linear(h, u, b_u)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class LSTMCell(nn.Module):
    """``lstm_step`` with parameters of its own, named and drawn as those of ``nn.LSTMCell``.

    Args:
        dim: width ``d`` of what it reads.
        hidden: width ``c`` of its state.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __init__(self, dim: int, *, hidden: int) -> None:
        super().__init__()
        for name, parameter in zip(NAMES, _draw(dim, hidden), strict=True):
            self.register_parameter(name, parameter)

    def forward(self, x: Float[Tensor, "b d"], state: State) -> State:
        """The state after one more token."""
        return lstm_step(x, state, (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))


class LSTM(nn.Module):
    """A stack of cells, each of which reads what the one below wrote; parameters named as those of ``nn.LSTM``.

    Args:
        dim: width ``d`` of the sequence.
        hidden: width ``c`` of each layer's state.
        layers: number of layers ``l``.

    Raises:
        ValueError: if there is no layer.
    """

    def __init__(self, dim: int, *, hidden: int, layers: int = 1) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers={layers}: a stack has one layer or more")
        self.dim, self.hidden, self.layers = dim, hidden, layers
        for layer in range(layers):
            for name, parameter in zip(NAMES, _draw(hidden if layer else dim, hidden), strict=True):
                self.register_parameter(f"{name}_l{layer}", parameter)

    def forward(
        self, x: Float[Tensor, "b n d"], state: State | None = None, *, lengths: Int[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        """Read a batch of sequences.

        Args:
            x: the sequences.
            state: h and c before the first token, each ``l b c``; zeros if not given.
            lengths: of each sequence, where what follows is padding: it leaves the state as it was, and its outputs
                are zero. All ``n`` tokens count if not given.

        Returns:
            The top layer's h at every token, and h and c of all layers after the last.

        Raises:
            ValueError: if the sequences have another width.
        """
        _check_width(x, self.dim)
        b, n, _ = x.shape
        h, c = (x.new_zeros(self.layers, b, self.hidden),) * 2 if state is None else state
        states = [*zip(h.unbind(0), c.unbind(0), strict=True)]
        weights = [tuple(getattr(self, f"{name}_l{layer}") for name in NAMES) for layer in range(self.layers)]
        written = []
        for t in range(n):
            below = x[:, t]
            for layer in range(self.layers):
                new = lstm_step(below, states[layer], weights[layer])
                if lengths is not None:
                    going = (t < lengths)[:, None]
                    new = torch.where(going, new[0], states[layer][0]), torch.where(going, new[1], states[layer][1])
                states[layer] = new
                below = new[0]
            written.append(below if lengths is None else below * (t < lengths)[:, None])
        out = torch.stack(written, 1) if written else x.new_zeros(b, 0, self.hidden)
        return out, (torch.stack([h for h, _ in states]), torch.stack([c for _, c in states]))


class FusedLSTM(nn.LSTM):
    """``LSTM`` by PyTorch's kernels: the same parameters, arguments and outputs; sequences have one token or more."""

    def __init__(self, dim: int, *, hidden: int, layers: int = 1) -> None:
        super().__init__(dim, hidden, layers, batch_first=True)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b n d"], state: State | None = None, *, lengths: Int[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        """As ``LSTM.forward``."""
        _check_width(x, self.input_size)
        if lengths is None:
            return super().forward(x, state)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, state = super().forward(packed, state)
        return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0], state


Recurrent = Callable[..., nn.Module]  # makes, from dim, hidden and layers, a module that is called as ``LSTM``


def reverse(tokens: Int[Tensor, "b n"], *, padding: int = 0) -> Int[Tensor, "b n"]:
    """Each text from its last token to its first; the padding stays behind it (section 3.3, of sources only)."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    back = tokens.ne(padding).sum(1, keepdim=True) - 1 - places
    return tokens.gather(1, torch.where(back < 0, places, back))


class Encoder(nn.Module):
    """Tokens to the state of an LSTM that has read them: 2 l c numbers, however many the tokens (section 2).

    Args:
        vocabulary: number of tokens.
        dim: width ``d`` of the embedding.
        hidden, layers: of the LSTM.
        recurrent: makes it, ``LSTM`` or ``FusedLSTM``.
        padding: the token that fills up texts at their ends.
    """

    def __init__(
        self, vocabulary: int, *, dim: int, hidden: int, layers: int, recurrent: Recurrent = LSTM, padding: int = 0
    ) -> None:
        super().__init__()
        self.padding, self.hidden, self.layers = padding, hidden, layers
        self.embedding = TokenTable(vocabulary, dim, padding_idx=padding)
        self.lstm = recurrent(dim, hidden=hidden, layers=layers)

    def forward(self, tokens: Int[Tensor, "b m"]) -> tuple[Float[Tensor, "b m c"], State]:
        """What the top layer wrote at each token, which this paper does not use, and the last state, which it does."""
        return self.lstm(self.embedding(tokens), lengths=tokens.ne(self.padding).sum(1))


class Decoder(nn.Module):
    """A language model that starts from a state that it is given; arguments as in ``Encoder``."""

    def __init__(
        self, vocabulary: int, *, dim: int, hidden: int, layers: int, recurrent: Recurrent = LSTM, padding: int = 0
    ) -> None:
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.embedding = TokenTable(vocabulary, dim, padding_idx=padding)
        self.lstm = recurrent(dim, hidden=hidden, layers=layers)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Int[Tensor, "b n"], state: State) -> tuple[Float[Tensor, "b n v"], State]:
        """The logits of the token after each token, and the state after the last."""
        out, state = self.lstm(self.embedding(tokens), state)
        return self.output(out), state


class Seq2Seq(nn.Module):
    """p(y_1, ..., y_n | x_1, ..., x_m) = Π p(y_t | v, y_1, ..., y_{t-1}), with v what the encoder makes of x (eq. 1).

    All parameters are drawn evenly from -0.08 to 0.08 (section 3.4); the rows of the padding token are zero.

    Args:
        encoder: reads the source.
        decoder: writes the target; with as many layers and as wide an LSTM as the encoder.

    Raises:
        ValueError: if the two do not fit; by ``forward`` and ``begin``, for tokens that are no batch.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        sizes = [f"{half.hidden} cells in {half.layers} layers" for half in (encoder, decoder)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"an encoder of {sizes[0]} cannot start a decoder of {sizes[1]}: give both the same")
        self.encoder, self.decoder = encoder, decoder
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)
        for embedding in (encoder.embedding, decoder.embedding):
            nn.init.zeros_(embedding.weight.detach()[embedding.padding_idx])

    def forward(self, source: Int[Tensor, "b m"], target: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits for the token after each target token, whatever the model itself would have written there.

        This is teacher forcing: the decoder reads the target and not its own choices.
        """
        _check_batch(source)
        _check_batch(target)
        if source.shape[0] != target.shape[0]:
            raise ValueError(f"{source.shape[0]} sources, but {target.shape[0]} targets: each source needs one")
        return self.decoder(target, self.encoder(source)[1])[0]

    def begin(self, source: Int[Tensor, "b m"]) -> "Decoding":
        """Read the source; the state from which ``nn.decoding.greedy`` writes."""
        _check_batch(source)
        return Decoding(self.decoder, self.encoder(source)[1])


class Decoding:
    """A text part of the way: all that is known of source and text is one state of fixed size.

    A ``nn.decoding.DecodingState``.
    """

    def __init__(self, decoder: Decoder, state: State) -> None:
        self.decoder = decoder
        self.state = state

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one token to each text; returns the logits of the token after it."""
        logits, self.state = self.decoder(tokens[:, None], self.state)
        return logits[:, 0]

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these texts, in this order."""
        self.state = self.state[0][:, rows], self.state[1][:, rows]


@pretrainable
def seq2seq(name: str, *, recurrent: Recurrent = LSTM, padding: int = 0, **overrides: Any) -> Seq2Seq:
    """Build the model of section 3.4, as ``seq2seq("wmt14", layers=2, source_vocabulary=30, target_vocabulary=30)``.

    Args:
        name: a row of ``VARIANTS``.
        recurrent: ``LSTM``, or ``FusedLSTM``, which is faster.
        padding: the padding token of source and target.
        overrides: other ``layers``, ``dim``, ``hidden``, ``source_vocabulary``, ``target_vocabulary``.

    Raises:
        ValueError: if the name or an override is unknown.
    """
    row = lookup(VARIANTS, name)
    if unknown := overrides.keys() - row.keys():
        raise ValueError(f"unknown overrides {sorted(unknown)}; known: {', '.join(row)}")
    sizes = {**row, **overrides, "recurrent": recurrent, "padding": padding}
    source, target = sizes.pop("source_vocabulary"), sizes.pop("target_vocabulary")
    return Seq2Seq(Encoder(source, **sizes), Decoder(target, **sizes))


def _draw(dim: int, hidden: int) -> list[nn.Parameter]:
    shapes = ((4 * hidden, dim), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
    return [nn.Parameter(torch.empty(shape).uniform_(-(hidden**-0.5), hidden**-0.5)) for shape in shapes]


def _check_width(x: Tensor, dim: int) -> None:
    if x.shape[-1] != dim:
        raise ValueError(f"a sequence of width {x.shape[-1]}, but the LSTM was built for dim={dim}")


def _check_batch(tokens: Tensor) -> None:
    if tokens.ndim != 2:
        hint = ": for one sequence, give it tokens[None]" if tokens.ndim == 1 else ""
        raise ValueError(f"tokens of shape {tuple(tokens.shape)}, but the model reads batches 'b n'{hint}")
