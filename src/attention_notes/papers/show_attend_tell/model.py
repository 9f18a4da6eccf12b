"""Show, Attend and Tell: Neural Image Caption Generation with Visual Attention.

Xu et al. 2015, arXiv 1502.03044. The idea: a network that writes a caption word by word looks, for each word, at those
places of a convolutional map that its own state asks for.

Departures:
    - The last bias of the score network is left out: it adds the same to all scores, and the softmax removes it.
    - Equation 7 as it is printed. The authors' code takes a tanh of the sum before the last map, and adds the word and
      the context only on request.
    - A start token takes the place of the zero vector before the first word.
    - Initial state and memory are one linear map and a tanh each, as in the authors' code; the paper says "MLPs".
    - No dropout; layers start as PyTorch draws them, not from the authors' normal distribution of deviation 0.01.
    - Hard attention always samples in training, unless ``half_hard`` is given; the authors' code, by default, takes
      the sample for half of the batches, and divides the reward of equation 12 by ten.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable

Look = Callable[[Float[Tensor, "b l"]], Float[Tensor, "b l"]]


def soft(weights: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """Every place, as much as it weighs: the context is its own expectation (equation 13)."""
    return weights


def hard(weights: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """One place of each image, drawn with the weights as probabilities (equations 8 and 9); no gradient comes back."""
    drawn = torch.multinomial(weights.detach(), 1)[:, 0]
    return F.one_hot(drawn, weights.shape[-1]).to(weights.dtype)


def half_hard(weights: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """Of each image, with probability one half, the drawn place, otherwise all by weight (section 4.1)."""
    coin = torch.rand(weights.shape[0], 1, device=weights.device) < 0.5
    return torch.where(coin, hard(weights), weights)


def likeliest(weights: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """The place with the largest weight: hard attention without chance."""
    return F.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights.dtype)


def evenly(weights: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """All places by the same share: the mean annotation, whatever the word. What is left without attention."""
    return torch.full_like(weights, 1 / weights.shape[-1])


class Scores(nn.Module):
    """How much each place weighs for the next word (equations 4 and 5), from an additive network f_att.

        e_ti = w · tanh(W_a a_i + W_h h_{t-1} + b),   α_t = softmax(e_t)

    Args:
        annotation: width D of an annotation vector.
        dim: width of the state h.
        hidden: width of the hidden layer.
    """

    def __init__(self, annotation: int, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.annotations = nn.Linear(annotation, hidden)
        self.state = nn.Linear(dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, keys: Float[Tensor, "b l k"], h: Float[Tensor, "b c"]) -> Float[Tensor, "b l"]:
        """The weights α; ``keys`` are W_a a_i + b, which stay the same for all words."""
        return self.score((keys + self.state(h)[:, None]).tanh())[..., 0].softmax(-1)


class Written(NamedTuple):
    """What a caption's words were given: logits, the weights of the places, and what the look made of these."""

    logits: Float[Tensor, "b n v"]
    weights: Float[Tensor, "b n l"]
    looked: Float[Tensor, "b n l"]


class ShowAttendTell(nn.Module):
    """A convolutional map and a recurrent network that looks at it before each word.

        a_1 ... a_L = the places of features(image)                    annotation vectors, of width D
        c_0, h_0    = tanh(W_c ā), tanh(W_h ā),  ā = 1/L Σ_i a_i         section 3.1.2
        α_t         = softmax(f_att(a_i, h_{t-1}))                     equations 4 and 5
        ẑ_t         = β_t Σ_i look(α_t)_i a_i,  β_t = σ(f_β(h_{t-1}))    equations 6, 9, 13; section 4.2.1
        i, f, o, g  = σ, σ, σ, tanh of T (E y_{t-1}, h_{t-1}, ẑ_t)     equation 1
        c_t         = f ⊙ c_{t-1} + i ⊙ g,   h_t = o ⊙ tanh(c_t)         equations 2 and 3
        p(y_t)      ∝ exp(L_o (E y_{t-1} + L_h h_t + L_z ẑ_t))          equation 7

    Args:
        features: maps images to maps of ``annotation`` channels; ``nn.Identity()`` where maps are given.
        annotation: width D of an annotation vector.
        vocabulary: number of words v.
        dim: width of the state h and the memory c.
        words: width of an embedded word.
        hidden: width of the hidden layer of f_att; ``annotation`` when not given, as in the authors' code.
        look: which places the context is made of, from the weights: ``soft``, ``hard``, ``evenly`` or your own.
            It is an attribute, and can be changed, as to ``likeliest`` when a hard model has been trained.
    """

    def __init__(
        self,
        features: nn.Module,
        *,
        annotation: int,
        vocabulary: int,
        dim: int,
        words: int,
        hidden: int | None = None,
        look: Look = soft,
    ) -> None:
        super().__init__()
        self.features, self.annotation, self.look = features, annotation, look
        self.scores = Scores(annotation, dim=dim, hidden=hidden or annotation)
        self.first_memory = nn.Linear(annotation, dim)  # f_init,c
        self.first_state = nn.Linear(annotation, dim)  # f_init,h
        self.gate = nn.Linear(dim, 1)  # f_β
        self.embedding = nn.Embedding(vocabulary, words)  # E
        self.cell = nn.LSTMCell(words + annotation, dim)  # T
        self.from_state = nn.Linear(dim, words, bias=False)  # L_h
        self.from_context = nn.Linear(annotation, words, bias=False)  # L_z
        self.output = nn.Linear(words, vocabulary)  # L_o

    def annotations(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b l d"]:
        """The annotation vectors: the places of the map, row by row.

        Raises:
            ValueError: if the map has another number of channels than the model was made for.
        """
        made = self.features(images)
        if made.shape[1] != self.annotation:
            raise ValueError(
                f"the map has {made.shape[1]} channels, but annotation={self.annotation}: give features with as many"
            )
        return rearrange(made, "b d y x -> b (y x) d")

    def first(self, annotations: Float[Tensor, "b l d"]) -> tuple[Tensor, Tensor, Tensor]:
        """What all words share of the annotations, and the first state and memory, from their mean."""
        mean = annotations.mean(1)
        return self.scores.annotations(annotations), self.first_state(mean).tanh(), self.first_memory(mean).tanh()

    def step(
        self,
        annotations: Float[Tensor, "b l d"],
        keys: Float[Tensor, "b l k"],
        tokens: Int[Tensor, " b"],
        h: Float[Tensor, "b c"],
        c: Float[Tensor, "b c"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One word: logits, weights, what the look made of them, and the next state and memory."""
        weights = self.scores(keys, h)
        looked = self.look(weights)
        context = self.gate(h).sigmoid() * (looked[:, None] @ annotations)[:, 0]
        word = self.embedding(tokens)
        h, c = self.cell(torch.cat([word, context], -1), (h, c))
        return self.output(word + self.from_state(h) + self.from_context(context)), weights, looked, h, c

    def begin(self, images: Float[Tensor, "b ch y x"]) -> "Writing":
        """Look at the images once; the state from which captions can be written word by word."""
        return Writing(self, self.annotations(images))

    def write(self, images: Float[Tensor, "b ch y x"], words: Int[Tensor, "b n"]) -> Written:
        """Read given words one after the other (teacher forcing), and keep where the model looks before each."""
        annotations = self.annotations(images)
        keys, h, c = self.first(annotations)
        kept = []
        for word in words.unbind(1):
            logits, weights, looked, h, c = self.step(annotations, keys, word, h, c)
            kept.append((logits, weights, looked))
        return Written(*(torch.stack(parts, 1) for parts in zip(*kept, strict=True)))

    def forward(self, images: Float[Tensor, "b ch y x"], words: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """The logits of the word after each of the given ones."""
        return self.write(images, words).logits


class Writing:
    """Captions part of the way: the annotations, and the state and the memory of the recurrent network.

    A ``nn.decoding.DecodingState``. After a step, ``weights`` are the α of that step, and ``looked`` what the model's
    look made of them.
    """

    weights: Float[Tensor, "b l"]
    looked: Float[Tensor, "b l"]

    def __init__(self, model: ShowAttendTell, annotations: Float[Tensor, "b l d"]) -> None:
        self.model, self.annotations = model, annotations
        self.keys, self.h, self.c = model.first(annotations)

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one word to each caption; returns the logits of the word after it."""
        logits, self.weights, self.looked, self.h, self.c = self.model.step(
            self.annotations, self.keys, tokens, self.h, self.c
        )
        return logits

    def reorder(self, rows: Int[Tensor, " k"]) -> None:
        """Go on with these captions, in this order."""
        self.annotations, self.keys = self.annotations[rows], self.keys[rows]
        self.h, self.c = self.h[rows], self.c[rows]


def log_likelihood(
    logits: Float[Tensor, "b n v"], targets: Int[Tensor, "b n"], present: Bool[Tensor, "b n"]
) -> Float[Tensor, " b"]:
    """log p(y | a) of each caption: the sum over its words."""
    each = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return (each * present).sum(-1)


def doubly_stochastic(weights: Float[Tensor, "b n l"], present: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """The term of equation 14, Σ_i (1 − Σ_t α_ti)²: every place is to get, over a caption, what a word gives out."""
    return (1 - (weights * present[..., None]).sum(1)).square().sum(-1)


def log_probability(written: Written, present: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """log p(s̃ | a): how probable the places were that a hard look has drawn (equation 8)."""
    each = (written.looked * written.weights.clamp(min=torch.finfo(written.weights.dtype).tiny).log()).sum(-1)
    return (each * present).sum(-1)


def reinforce(
    written: Written,
    targets: Int[Tensor, "b n"],
    present: Bool[Tensor, "b n"],
    *,
    baseline: float | Tensor = 0.0,
    reward: float = 1.0,
    entropy: float = 0.0,
) -> Float[Tensor, " b"]:
    """What to minimise with hard attention; minus its gradient is the estimator at the end of section 4.1.

        ∂ log p(y|s̃,a) / ∂W + λ_r (log p(y|s̃,a) − b) ∂ log p(s̃|a) / ∂W + λ_e ∂ H[s̃] / ∂W

    With λ_r = 1 and λ_e = 0 its expectation is the gradient of the lower bound Σ_s p(s|a) log p(y|s,a) of equation 10,
    whatever the baseline; the baseline and the entropy are there to reduce its variance.

    Args:
        written: by a model that looks ``hard``.
        targets: the word after each of the given ones.
        present: False where a caption has ended.
        baseline: b, as ``Baseline`` keeps it.
        reward: λ_r.
        entropy: λ_e.
    """
    likelihood = log_likelihood(written.logits, targets, present)
    advantage = likelihood.detach() - baseline
    spread = -(torch.special.xlogy(written.weights, written.weights).sum(-1) * present).sum(-1)
    return -(likelihood + reward * advantage * log_probability(written, present) + entropy * spread)


class Baseline:
    """The moving average of the log likelihoods (section 4.1): b_k = 0.9 b_{k−1} + 0.1 log p(y | s̃_k, a).

    Args:
        keep: the share of the old value.
    """

    def __init__(self, *, keep: float = 0.9) -> None:
        self.keep, self.value = keep, 0.0

    def update(self, likelihood: Float[Tensor, " b"]) -> None:
        """Take in the mean over a batch."""
        self.value = self.keep * self.value + (1 - self.keep) * float(likelihood.detach().mean())


# Defaults of ``train`` in the authors' capgen.py. It is given the maps of a VGG network, which it does not train.
VARIANTS: dict[str, dict[str, Any]] = {"capgen": {"annotation": 512, "dim": 1000, "words": 100}}


@pretrainable
def show_attend_tell(
    variant: str, *, vocabulary: int, features: nn.Module | None = None, **overrides: Any
) -> ShowAttendTell:
    """A model with the sizes of a variant, as ``show_attend_tell("capgen", vocabulary=10_000)``.

    Args:
        variant: a key of ``VARIANTS``.
        vocabulary: number of words.
        features: maps images to maps; when not given the model is given maps.
        overrides: any other argument of ``ShowAttendTell``.

    Raises:
        ValueError: if the variant is unknown.
    """
    sizes = {**lookup(VARIANTS, variant), **overrides}
    return ShowAttendTell(nn.Identity() if features is None else features, vocabulary=vocabulary, **sizes)
