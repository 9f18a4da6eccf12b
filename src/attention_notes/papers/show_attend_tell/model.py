"""Show, Attend and Tell: Neural Image Caption Generation with Visual Attention.

Xu et al. 2015, arXiv 1502.03044. The idea: a network that writes a caption word by word looks, for each word, at those
places of a convolutional map that its own state asks for.

Departures. The authors' code is kelvinxu/arctic-captions at f4565bf.
    - The last bias of the score network is left out: it adds the same to all scores, and the softmax removes it.
    - f_att has one hidden layer, and f_init none: the defaults of the code's ``train``. Its example for COCO has one
      more in both.
    - Equation 7 as it is printed. The code has a tanh before L_o, biases on L_h and L_z, and adds the word and the
      context only on request.
    - The gate β is there with every kind of attention; the paper has it with the soft one, the code on request.
    - A start token takes the place of the zero vector before the first word.
    - No dropout; layers start as PyTorch draws them. The code draws square matrices orthogonal, and others from a
      normal distribution of deviation 0.01.
    - Hard attention always draws, unless ``half_hard`` is given, which tosses a coin for each word of each image. The
      paper tosses one for an image, the code one for a batch, and it divides the reward by ten.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.nn.tokens import TokenTable
from attention_notes.nn.variants import lookup
from attention_notes.weights.pretrained import pretrainable

Look = Callable[[Float[Tensor, "*b l"]], Float[Tensor, "*b l"]]


def soft(weights: Float[Tensor, "*b l"]) -> Float[Tensor, "*b l"]:
    """Every place, as much as it weighs: the context is its own expectation (equation 13)."""
    return weights


def hard(weights: Float[Tensor, "*b l"]) -> Float[Tensor, "*b l"]:
    """One place of each image, drawn with the weights as probabilities (equations 8 and 9); no gradient comes back."""
    drawn = torch.multinomial(weights.detach().flatten(0, -2), 1).view(weights.shape[:-1])
    return F.one_hot(drawn, weights.shape[-1]).to(weights.dtype)


def half_hard(weights: Float[Tensor, "*b l"]) -> Float[Tensor, "*b l"]:
    """With probability one half the drawn place, otherwise all by weight (section 4.1)."""
    coin = torch.rand(*weights.shape[:-1], 1, device=weights.device) < 0.5
    return torch.where(coin, hard(weights), weights)


def likeliest(weights: Float[Tensor, "*b l"]) -> Float[Tensor, "*b l"]:
    """The place with the largest weight: hard attention without chance."""
    return F.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights.dtype)


def evenly(weights: Float[Tensor, "*b l"]) -> Float[Tensor, "*b l"]:
    """All places by the same share: the mean annotation, whatever the word. What is left without attention."""
    return torch.full_like(weights, 1 / weights.shape[-1])


class Attention(nn.Module):
    """Which places the next word needs, and what is read there.

        e_ti = w · tanh(W_a a_i + W_h h_{t-1} + b)                 the additive network f_att, equation 4
        α_t  = softmax(e_t)                                        equation 5
        φ    = Σ_i look(α_t)_i a_i                                 equations 6, 9 and 13

    Args:
        annotation: width D of an annotation vector.
        dim: width n of the state h.
        hidden: width k of the hidden layer.
        look: which places are read, from the weights. It is an attribute, and can be changed.
    """

    def __init__(self, annotation: int, *, dim: int, hidden: int, look: Look = soft) -> None:
        super().__init__()
        self.look = look
        self.annotations = nn.Linear(annotation, hidden)
        self.state = nn.Linear(dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def keys(self, annotations: Float[Tensor, "b l d"]) -> Float[Tensor, "b l k"]:
        """W_a a_i + b, which stay the same for all words."""
        return self.annotations(annotations)

    def forward(
        self, h: Float[Tensor, "b c"], annotations: Float[Tensor, "b l d"], keys: Float[Tensor, "b l k"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b l"], Float[Tensor, "b l"]]:
        """What is read, the weights α, and what the look made of them."""
        scores = self.score((keys + self.state(h)[:, None]).tanh())[..., 0]
        weights = scores[:, None, None].softmax(-1)  # b h n l, with one head and one word
        looked = self.look(weights)
        return (looked @ annotations[:, None])[:, 0, 0], weights[:, 0, 0], looked[:, 0, 0]


class Written(NamedTuple):
    """What a caption's words were given: logits, the weights of the places, and what the look made of these."""

    logits: Float[Tensor, "b n v"]
    weights: Float[Tensor, "b n l"]
    looked: Float[Tensor, "b n l"]


class ShowAttendTell(nn.Module):
    """A convolutional map and a recurrent network that looks at it before each word.

        a_1 ... a_L = the places of features(image)                    annotation vectors, of width D
        c_0, h_0    = tanh(W_c ā), tanh(W_h ā),  ā = 1/L Σ_i a_i         section 3.1.2
        ẑ_t         = β_t φ({a_i}, h_{t-1}),  β_t = σ(f_β(h_{t-1}))     ``Attention``; section 4.2.1
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
            ``model.attention.look`` can be changed, as to ``likeliest`` when a hard model has been trained.
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
        self.features, self.annotation = features, annotation
        self.attention = Attention(annotation, dim=dim, hidden=hidden or annotation, look=look)
        self.first_memory = nn.Linear(annotation, dim)  # f_init,c
        self.first_state = nn.Linear(annotation, dim)  # f_init,h
        self.gate = nn.Linear(dim, 1)  # f_β
        self.embedding = TokenTable(vocabulary, words)  # E
        self.cell = nn.LSTMCell(words + annotation, dim)  # T
        self.from_state = nn.Linear(dim, words, bias=False)  # L_h
        self.from_context = nn.Linear(annotation, words, bias=False)  # L_z
        self.output = nn.Linear(words, vocabulary)  # L_o

    def annotations(self, images: Float[Tensor, "b ch y x"]) -> Float[Tensor, "b l d"]:
        """The annotation vectors: the places of the map, row by row.

        Raises:
            ValueError: if ``features`` gives no batch of maps, or maps with another number of channels.
        """
        made = self.features(images)
        if made.ndim != 4:
            raise ValueError(
                f"features made {tuple(made.shape)} of images {tuple(images.shape)}: the model reads batches of maps, "
                "'b d y x'; for one image, give it image[None]"
            )
        if made.shape[1] != self.annotation:
            raise ValueError(
                f"the map has {made.shape[1]} channels, but annotation={self.annotation}: give features with as many"
            )
        return rearrange(made, "b d y x -> b (y x) d")

    def first(self, annotations: Float[Tensor, "b l d"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """The state and the memory before the first word, from the mean of the annotations."""
        mean = annotations.mean(1)
        return self.first_state(mean).tanh(), self.first_memory(mean).tanh()

    def step(
        self,
        word: Float[Tensor, "b m"],
        h: Float[Tensor, "b c"],
        c: Float[Tensor, "b c"],
        annotations: Float[Tensor, "b l d"],
        keys: Float[Tensor, "b l k"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One embedded word: the next state and memory, the context, the weights, and what the look made of them."""
        context, weights, looked = self.attention(h, annotations, keys)
        context = self.gate(h).sigmoid() * context
        h, c = self.cell(torch.cat([word, context], -1), (h, c))
        return h, c, context, weights, looked

    def predict(
        self, word: Float[Tensor, "*b m"], h: Float[Tensor, "*b c"], context: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b v"]:
        """Equation 7: the logits of the next word."""
        return self.output(word + self.from_state(h) + self.from_context(context))

    def begin(self, images: Float[Tensor, "b ch y x"]) -> "Writing":
        """Look at the images once; the state from which captions can be written word by word."""
        return Writing(self, self.annotations(images))

    def write(self, images: Float[Tensor, "b ch y x"], words: Int[Tensor, "b n"]) -> Written:
        """Read given words one after the other (teacher forcing), and keep where the model looks before each.

        Raises:
            ValueError: if there are no words.
        """
        if words.shape[1] == 0:
            raise ValueError(f"words of shape {tuple(words.shape)}: give at least the token with which captions begin")
        annotations, embedded = self.annotations(images), self.embedding(words)
        keys, (h, c) = self.attention.keys(annotations), self.first(annotations)
        kept = []
        for word in embedded.unbind(1):
            h, c, context, weights, looked = self.step(word, h, c, annotations, keys)
            kept.append((h, context, weights, looked))
        states, contexts, *looks = (torch.stack(parts, 1) for parts in zip(*kept, strict=True))
        return Written(self.predict(embedded, states, contexts), *looks)

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
        self.keys, (self.h, self.c) = model.attention.keys(annotations), model.first(annotations)

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Append one word to each caption; returns the logits of the word after it."""
        word = self.model.embedding(tokens)
        self.h, self.c, context, self.weights, self.looked = self.model.step(
            word, self.h, self.c, self.annotations, self.keys
        )
        return self.model.predict(word, self.h, context)

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


# Defaults of ``train`` in the authors' capgen.py, and those of evaluate_coco.py for soft attention. Both are given the
# maps of a VGG network, which they do not train.
VARIANTS: dict[str, dict[str, Any]] = {
    "capgen": {"annotation": 512, "dim": 1000, "words": 100},
    "coco": {"annotation": 512, "dim": 1800, "words": 512},
}


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
