"""Efficient Estimation of Word Representations in Vector Space, Mikolov, Chen, Corrado, Dean, 2013, arXiv 1301.3781.

In one sentence: a network that predicts the neighbours of a word needs no hidden non-linearity, and with a few noise
words in place of the vocabulary's softmax it learns word vectors from a billion words.

Negative sampling and subsampling are from the same authors' second paper (Mikolov, Sutskever, Chen, Corrado, Dean 2013,
arXiv 1310.4546), whose equations have numbers here. Its W, the number of words, is ``v`` in shapes. ``shifted_pmi`` is
from Levy and Goldberg 2014, Neural Word Embedding as Implicit Matrix Factorization.

Departures:
    - No hierarchical softmax, the output of the first paper. All scores, or those of some candidates, are returned.
    - A batch of pairs takes one step; the authors' code (word2vec.c) steps after every candidate of every pair. For one
      pair with different candidates both are the same.
    - A noise word that happens to be the neighbour itself counts, as in equation 4; the authors' code leaves it out.
    - In ``CBOW`` each of n neighbours receives 1/n of the hidden vector's gradient, as the mean has it. The authors'
      code gives each of them the whole.
    - ``windows`` takes the same number of words on either side. The authors' code draws it anew for each word, from
      one to the window's size, so that nearer words are met more often.
    - σ is computed. The authors' code, and gensim, take it from a table of 1,000 values between -6 and 6.
    - ``kept`` is equation 5. The authors' code keeps a word with √(t/f) + t/f.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attention_notes.nn.tokens import TokenTable

NOTHING = -1  # where a sentence has ended and no neighbour stands


class Bottleneck(nn.Module):
    """A linear network from words to words, with ``c`` numbers between the two tables; abstract.

        score of a candidate o = v'_o · h,   h in R^c

    The rows v_w of ``input`` are the word vectors, the rows v'_w of ``output`` those of the predicted words. As in
    the authors' code the first start uniform between -1/(2c) and 1/(2c), the second at zero.

    Args:
        words: size ``v`` of the vocabulary.
        dim: width ``c`` of the bottleneck.

    Raises:
        ValueError: if one of them is below one.
    """

    def __init__(self, words: int, *, dim: int) -> None:
        super().__init__()
        if min(words, dim) < 1:
            raise ValueError(f"words={words}, dim={dim}: there must be at least one of each")
        self.input = TokenTable(words, dim)
        self.output = TokenTable(words, dim)
        nn.init.uniform_(self.input.weight, -0.5 / dim, 0.5 / dim)
        nn.init.zeros_(self.output.weight)

    def hidden(self, given: Int[Tensor, "b ..."]) -> Float[Tensor, "b c"]:
        """What passes through the bottleneck."""
        raise NotImplementedError

    def forward(
        self, given: Int[Tensor, "b ..."], candidates: Int[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b m"]:
        """The scores of ``m`` candidates, or of all ``v`` words where none are named."""
        h = self.hidden(given)
        if candidates is None:
            return h @ self.output.weight.mT
        return torch.einsum("bc,bmc->bm", h, self.output(candidates))


class SkipGram(Bottleneck):
    """A word predicts each of its neighbours (1301.3781, section 3.2; 1310.4546, equation 2).

        h = v_w,   p(o | w) = exp(v'_o · v_w) / Σ_u exp(v'_u · v_w)

    Arguments and errors as in ``Bottleneck``.
    """

    def hidden(self, given: Int[Tensor, " b"]) -> Float[Tensor, "b c"]:
        """The word's row, which is its one-hot vector times the table."""
        return self.input(given)


class CBOW(Bottleneck):
    """The neighbours together predict the word between them (1301.3781, section 3.1).

        h = mean of v_u over the neighbours u

    Where no neighbour stands, ``given`` has ``NOTHING``; a word without any has h = 0. Arguments and errors as in
    ``Bottleneck``.
    """

    def hidden(self, given: Int[Tensor, "b n"]) -> Float[Tensor, "b c"]:
        """The mean of the rows of those that are there; their order is lost."""
        there = given != NOTHING
        rows = self.input(given.clamp(min=0)) * there[..., None]
        return rows.sum(1) / there.sum(1, keepdim=True).clamp(min=1)


def negative_sampling(scores: Float[Tensor, "b m"]) -> Float[Tensor, ""]:
    """Minus equation 4, the mean over a batch: the first candidate stood in the text, the other k = m - 1 are noise.

        -log σ(v'_o · h) - Σ_i log σ(-v'_i · h)

    Raises:
        ValueError: if there is no noise: the loss would be least with every score infinite.
    """
    if scores.shape[1] < 2:
        raise ValueError(f"{scores.shape[1]} candidates: give the word that stood there and at least one of noise")
    return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(1)).mean()


def noise(counts: Int[Tensor, " v"], *, power: int | float = 0.75) -> Float[Tensor, " v"]:
    """P_n(w), from which noise is drawn: the words' frequencies to a power, brought to sum one (section 2.2)."""
    raised = counts.double() ** power
    return raised / raised.sum()


def kept(counts: Int[Tensor, " v"], *, threshold: int | float = 1e-5) -> Float[Tensor, " v"]:
    """How likely an occurrence of each word stays in the text: √(t / f), at most one (one minus equation 5)."""
    frequency = counts.double() / counts.sum()
    return (threshold / frequency).sqrt().clamp(max=1)


def windows(sentences: Sequence[Sequence[int]], *, reach: int) -> tuple[Int[Tensor, " p"], Int[Tensor, "p n"]]:
    """Every word of a text with the ``n = 2 reach`` places around it in its sentence, ``NOTHING`` beyond its ends.

    Raises:
        ValueError: if ``reach`` is below one.
    """
    if reach < 1:
        raise ValueError(f"reach={reach}: a window reaches at least one word to either side")
    words, around = [], []
    for sentence in sentences:
        padded = [NOTHING] * reach + [*sentence] + [NOTHING] * reach
        for i, word in enumerate(sentence):
            words.append(word)
            around.append(padded[i : i + reach] + padded[i + reach + 1 : i + 2 * reach + 1])
    return torch.tensor(words, dtype=torch.int64), torch.tensor(around, dtype=torch.int64).view(-1, 2 * reach)


def pairs(words: Int[Tensor, " p"], around: Int[Tensor, "p n"]) -> Int[Tensor, "q 2"]:
    """Each word with each of its neighbours: what ``SkipGram`` is trained on."""
    there = around != NOTHING
    return torch.stack([words[:, None].expand_as(around)[there], around[there]], 1)


def co_occurrences(found: Int[Tensor, "q 2"], *, words: int) -> Int[Tensor, "v v"]:
    """#(w, c): how often each pair occurs, a row for each word and a column for each neighbour."""
    return torch.bincount(found[:, 0] * words + found[:, 1], minlength=words * words).unflatten(0, (words, words))


def expected_loss(
    scores: Float[Tensor, "v v"], together: Int[Tensor, "v v"], *, negatives: int, power: int | float = 0.75
) -> Float[Tensor, ""]:
    """``negative_sampling`` as a mean over the N pairs of a text and over all draws of noise (Levy and Goldberg).

    -1/N Σ_wc [#(w, c) log σ(x_wc) + k #(w) P_n(c) log σ(-x_wc)]
    """
    chance = together.sum(1, keepdim=True) * noise(together.sum(0), power=power)
    true, false = together * F.logsigmoid(scores), negatives * chance * F.logsigmoid(-scores)
    return -(true + false).sum() / together.sum()


def shifted_pmi(together: Int[Tensor, "v v"], *, negatives: int, power: int | float = 1.0) -> Float[Tensor, "v v"]:
    """The score of each pair at which ``expected_loss`` is least, were each free (Levy and Goldberg 2014).

        x_wc = log #(w, c) / (k #(w) P_n(c));   with power 1 this is PMI(w, c) - log k

    Minus infinity for a pair that never occurs. Every word must occur.
    """
    chance = together.sum(1, keepdim=True) * noise(together.sum(0), power=power)
    return (together / (negatives * chance)).log()


def place(vectors: Float[Tensor, "v c"], query: Float[Tensor, " c"], *, word: int, without: Sequence[int] = ()) -> int:
    """At which place, from 1, a word stands when all are sorted by their cosine with ``query``.

    The words ``without`` are left out, as those of the question are in an analogy (1310.4546, section 3).

    Raises:
        ValueError: if ``word`` itself is left out.
    """
    if word in without:
        raise ValueError(f"word={word} is among those left out: {', '.join(map(str, without))}")
    cosines = F.cosine_similarity(vectors, query[None], dim=1)
    cosines[[*without]] = -torch.inf
    return int((cosines > cosines[word]).sum()) + 1
