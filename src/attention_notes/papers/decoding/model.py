"""The Curious Case of Neural Text Degeneration, Holtzman et al. 2020, arXiv 1904.09751, and the search before it.

In one sentence: a text is written either by a search for one of high probability, or by drawing each token from the
few that hold most of the probability.

The search is that of Graves 2012 (arXiv 1211.3711) and Sutskever et al. 2014 (arXiv 1409.3215), its division by a power
of the length and the penalty ``gnmt`` are those of Wu et al. 2016 (arXiv 1609.08144, section 7, equation 14), ``top_k``
is that of Fan et al. 2018 (arXiv 1805.04833), and ``nucleus`` that of Holtzman et al., section 3.1.

Departures: a text that ends leaves the beam, and another takes its place, so that always K texts go on, as in
transformers' ``generate``; in Sutskever et al. the beam shrinks. Wu et al.'s coverage penalty and pruning are left
out. Tokens as likely as the last that ``top_k`` keeps stay as well.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attention_notes.nn.decoding import DecodingState

# What the log-probability of a text of n tokens, its end included, is divided by.
LengthPenalty = Callable[[int], float]
Adjust = Callable[[Tensor], Tensor]  # logits to logits


class Search(NamedTuple):
    """Where a beam search stands after ``length`` tokens: what a rule for its end may look at."""

    running: Float[Tensor, " b"]  # log-probability of the best text that goes on
    worst: Float[Tensor, " b"]  # score of the worst of the K finished texts, -inf while there are fewer
    length: int
    limit: int
    penalty: LengthPenalty


Stopping = Callable[[Search], Bool[Tensor, " b"]]


class Beams(NamedTuple):
    """The K best finished texts, the best first, filled with padding; where fewer exist, scores of -inf."""

    tokens: Int[Tensor, "b k n"]
    scores: Float[Tensor, "b k"]


def power(alpha: float) -> LengthPenalty:
    """n^alpha: 0 leaves the sum of the logarithms, 1 makes it their mean, and more is in favour of longer texts."""
    return lambda n: float(n) ** alpha


def gnmt(alpha: float) -> LengthPenalty:
    """Wu et al. 2016, equation 14: ((5 + n) / 6)^alpha."""
    return lambda n: ((5 + n) / 6) ** alpha


def at_this_length(search: Search) -> Bool[Tensor, " b"]:
    """Stop when the best running text, scored as if it ended now, is no better than the worst of K finished texts."""
    return search.running / search.penalty(search.length) <= search.worst


def no_better_possible(search: Search) -> Bool[Tensor, " b"]:
    """Stop when no length up to the limit could lift a running text above the worst of K finished texts."""
    most = max(search.penalty(search.length), search.penalty(search.limit))
    return search.running / most <= search.worst


def when_full(search: Search) -> Bool[Tensor, " b"]:
    """Stop as soon as K texts are finished."""
    return (search.worst > -math.inf) | at_this_length(search)


@torch.no_grad()
def beam_search(
    state: DecodingState,
    first: Int[Tensor, " b"],
    *,
    beams: int,
    end: int,
    limit: int,
    length_penalty: LengthPenalty = float,
    stopping: Stopping = at_this_length,
    padding: int = 0,
) -> Beams:
    """Extend the K likeliest texts by every token, keep the K likeliest of the results, until K finished texts win.

    The score of a text y of n tokens is log P(y) / length_penalty(n). A text is finished by its ``end`` if it is among
    the K likeliest of its step, or by ``limit``. With K = 1 this is ``greedy``.

    Args:
        state: as it was before the first token, with as many rows as ``first``.
        first: the token with which each text begins; it is not returned.
        beams: the width K; it may be larger than the vocabulary.
        end: the token that ends a text.
        limit: the largest number of tokens, the end included.
        length_penalty: ``power``, ``gnmt`` or another monotone, positive function of the length; n itself unless given.
        stopping: ``at_this_length``, as transformers has it; ``when_full``; or ``no_better_possible``, the safe one.
        padding: what fills the texts that end before the longest.

    Raises:
        ValueError: if a size is below 1, if ``first`` is no row of tokens, or if the model's logits are not numbers.
    """
    if beams < 1:
        raise ValueError(f"beams={beams}: at least one text is kept; beams=1 is greedy search")
    _check(first, limit)
    size, device = len(first), first.device
    logits = _numbers(state.step(first))
    vocabulary, dtype = logits.shape[-1], torch.promote_types(logits.dtype, torch.float32)
    if not 0 <= end < vocabulary:
        raise ValueError(f"end={end} is not among the {vocabulary} tokens of the vocabulary, 0 to {vocabulary - 1}")
    texts = torch.full((size, beams, limit), padding, dtype=first.dtype, device=device)
    best = Beams(texts.clone(), torch.full((size, beams), -math.inf, dtype=dtype, device=device))
    running = torch.zeros(size, 1, dtype=dtype, device=device)  # one text of no tokens, whose log-probability is 0
    done = torch.zeros(size, dtype=torch.bool, device=device)
    offset = torch.arange(size, device=device)[:, None]
    for length in range(1, limit + 1):
        width = running.shape[1]
        # At most K of the 2 K likeliest end here, so that at least K go on; no text has more than 2 K of them.
        likeliest, follow = logits.to(dtype).log_softmax(-1).topk(min(2 * beams, vocabulary))
        together = (running[..., None] + likeliest.view(size, width, likeliest.shape[-1])).flatten(1)
        scores, chosen = together.topk(min(2 * beams, together.shape[1]))
        parents, tokens = chosen // likeliest.shape[-1], follow.view(size, width * follow.shape[-1]).gather(1, chosen)
        candidates = texts.gather(1, parents[..., None].expand(-1, -1, limit))
        candidates[..., length - 1] = tokens
        ends = tokens.eq(end) if length < limit else torch.ones_like(tokens, dtype=torch.bool)
        counted = ends[:, :beams] & ~done[:, None]
        finished = (scores[:, :beams] / length_penalty(length)).masked_fill(~counted, -math.inf)
        best = _merge(best, Beams(candidates[:, :beams], finished))
        if length == limit:
            break
        running, kept = _padded(scores.masked_fill(ends, -math.inf), beams).topk(beams)
        kept = kept.clamp_max(scores.shape[1] - 1)
        done = done | stopping(Search(running[:, 0], best.scores[:, -1], length, limit, length_penalty))
        if done.all():
            break
        texts = candidates.gather(1, kept[..., None].expand(-1, -1, limit))
        rows = (offset * width + parents.gather(1, kept)).flatten()
        if width != beams or not torch.equal(rows, torch.arange(size * beams, device=device)):
            state.reorder(rows)
        logits = state.step(texts[..., length - 1].flatten())
    missing = best.scores.eq(-math.inf)[..., None]  # there are fewer than K texts
    return Beams(best.tokens[..., :length].masked_fill(missing, padding), best.scores)


def _merge(best: Beams, new: Beams) -> Beams:
    """The K best of two sets of finished texts; of equals, the earlier."""
    beams = best.scores.shape[1]
    if not (new.scores > -math.inf).any():
        return best
    scores, kept = torch.cat([best.scores, new.scores], 1).topk(beams)
    tokens = torch.cat([best.tokens, new.tokens], 1)
    return Beams(tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1])), scores)


def _padded(scores: Float[Tensor, "b n"], beams: int) -> Float[Tensor, "b m"]:
    """At least ``beams`` scores: beside those of the texts that exist, -inf."""
    lacking = max(0, beams - scores.shape[1])
    return torch.nn.functional.pad(scores, (0, lacking), value=-math.inf) if lacking else scores


@torch.no_grad()
def sample(
    state: DecodingState,
    first: Int[Tensor, " b"],
    *,
    choose: Sequence[Adjust] = (),
    end: int,
    limit: int,
    padding: int = 0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b n"]:
    """Draw each token from the softmax of the logits, adjusted by each function of ``choose`` in order.

    Args:
        state: as it was before the first token.
        first: the token with which each text begins; it is not returned.
        choose: such as ``(temperature(0.7), nucleus(0.9))``; with none, tokens come from the model's own distribution.
        end: the token that ends a text.
        limit: the largest number of tokens.
        padding: what fills the texts that end before the longest.
        generator: where the random numbers come from, on the device of ``first``; PyTorch's own if none is given.

    Raises:
        ValueError: if ``limit`` is below 1, if ``first`` is no row of tokens, or if the logits are not numbers.
    """
    _check(first, limit)
    token, written = first, []
    done = torch.zeros_like(first, dtype=torch.bool)
    for n in range(limit):
        logits = state.step(token)
        if n == 0:
            _numbers(logits)
        for adjust in choose:
            logits = adjust(logits)
        drawn = logits.float().softmax(-1).multinomial(1, generator=generator)[:, 0] if len(first) else first
        token = drawn.masked_fill(done, padding)
        written.append(token)
        done = done | (token == end)
        if done.all():
            break
    return torch.stack(written, 1)


def temperature(t: float) -> Adjust:
    """Logits divided by ``t``: below 1 the likely tokens gain, above 1 the unlikely ones.

    Raises:
        ValueError: if ``t`` is not above 0; at its limit 0 the likeliest token alone is left, which is ``greedy``.
    """
    if not 0 < t < math.inf:
        raise ValueError(f"temperature {t} is not a number above 0; for the likeliest token alone use greedy()")
    return lambda logits: logits / t


def top_k(k: int) -> Adjust:
    """The k largest logits (Fan et al. 2018); -inf for the rest. A k above the vocabulary keeps all.

    Raises:
        ValueError: if ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k({k}) leaves no token to draw: k is at least 1")

    def adjust(logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
        return logits.masked_fill(logits < least, -math.inf)

    return adjust


def nucleus(p: float) -> Adjust:
    """The smallest set of tokens whose probabilities add up to at least p (Holtzman et al. 2020, equation 2).

    It is found from the other side: the least likely tokens go, as long as they add up to no more than 1 - p.

    Raises:
        ValueError: if ``p`` is not in (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"nucleus({p}): p is a share of the probability, above 0 and at most 1")

    def adjust(logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        ascending, order = logits.sort(-1)
        left_out = ascending.softmax(-1).cumsum(-1) <= 1 - p
        left_out[..., -1] = False  # the likeliest token always stays
        return logits.masked_fill(torch.zeros_like(left_out).scatter(-1, order, left_out), -math.inf)

    return adjust


@torch.no_grad()
def log_probabilities(
    state: DecodingState, first: Int[Tensor, " b"], texts: Int[Tensor, "b n"], *, end: int
) -> Float[Tensor, "b n"]:
    """What the model gives each token of these texts, after the true ones before it; 0 behind the end.

    Args:
        state: as it was before the first token.
        first: the token with which each text begins.
        texts: such as ``greedy`` returns.
        end: the token that ends a text.
    """
    if not texts.shape[1]:
        return torch.zeros_like(texts, dtype=torch.float32)
    inputs = [first, *texts.unbind(1)][:-1]
    steps = torch.stack([state.step(token).log_softmax(-1) for token in inputs], 1)
    after = (texts == end).cumsum(1) - (texts == end).int() > 0
    return steps.gather(-1, texts[..., None])[..., 0].masked_fill(after, 0.0)


def _check(first: Tensor, limit: int) -> None:
    if limit < 1:
        raise ValueError(f"limit={limit}: at least one token is written")
    if first.ndim != 1 or first.is_floating_point():
        raise ValueError(
            f"first of shape {tuple(first.shape)} and {first.dtype}, but it is one token for each text: integers 'b'"
        )


def _numbers(logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
    """The logits, if there is a likeliest among them."""
    if bad := logits.isnan().any(-1).nonzero().flatten().tolist():
        raise ValueError(
            f"the logits of rows {bad[:5]} after the first token are not numbers: "
            "is a source empty, or did the training diverge?"
        )
    return logits
