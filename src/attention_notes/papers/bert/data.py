"""Letters of a manual without the spaces between its words: a text to pre-train on, and where its words end."""

import re
import string
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from attention_notes.chapters.data import sentences
from attention_notes.papers.bert.tokens import CLS, SEP, SPECIAL

PIECES = (*SPECIAL, *string.ascii_lowercase)  # a token is a place in this row
_CLS, _SEP = PIECES.index(CLS), PIECES.index(SEP)


class Letters(NamedTuple):
    """A text as tokens, one a letter, and whether a word ends at each."""

    tokens: Int[Tensor, " n"]
    ends: Bool[Tensor, " n"]


def letters(*, held_out: int = 8) -> tuple[Letters, Letters]:
    """Python's manual without spaces, marks and case: to train on, and the last of ``held_out`` parts to test on.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    if held_out < 2:
        raise ValueError(f"held_out={held_out} leaves nothing to train on; choose 2 or more")
    words = re.findall("[a-z]+", " ".join(sentences()).lower())
    text = "".join(words)
    tokens = torch.tensor([PIECES.index(letter) for letter in text])
    ends = torch.zeros(len(text), dtype=torch.bool)
    ends[torch.tensor([len(word) for word in words]).cumsum(0) - 1] = True
    first = len(text) - len(text) // held_out
    return Letters(tokens[:first], ends[:first]), Letters(tokens[first:], ends[first:])


def pairs(
    text: Int[Tensor, " n"], count: int, *, length: int, generator: Generator
) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b m"], Int[Tensor, " b"]]:
    """Pairs of stretches, [CLS] A [SEP] B [SEP]: half the time B is what follows A, and otherwise any other stretch.

    Returns:
        Tokens, segments, and the class of each pair: 0 where B follows, 1 where it does not.
    """
    a = torch.randint(len(text) - 2 * length, (count, 1), generator=generator)
    other = torch.randint(len(text) - length, (count, 1), generator=generator)
    b = torch.where(torch.rand(count, 1, generator=generator) < 0.5, a + length, other)
    within, column = torch.arange(length), torch.ones(count, 1, dtype=torch.long)
    sep = _SEP * column
    tokens = torch.cat([_CLS * column, text[a + within], sep, text[b + within], sep], 1)
    segments = torch.arange(2 * length + 3) > length + 1
    return tokens, segments.long().expand_as(tokens), (b != a + length)[:, 0].long()


def stretches(
    text: Letters, count: int, *, length: int, generator: Generator
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b n"]]:
    """Stretches, [CLS] A [SEP], and where words end in A."""
    at = torch.randint(len(text.tokens) - length, (count, 1), generator=generator) + torch.arange(length)
    column = torch.ones(count, 1, dtype=torch.long)
    return torch.cat([_CLS * column, text.tokens[at], _SEP * column], 1), text.ends[at]


def by_neighbours(
    text: Int[Tensor, " n"], left: Int[Tensor, " b"], right: Int[Tensor, " b"]
) -> dict[str, Float[Tensor, "b v"]]:
    """Scores of each letter from counts in a text: how frequent it is, after ``left``, before ``right``, and both.

    Both together are multiplied as if they were independent, given the letter. Anything but a letter tells nothing.
    """
    known = len(PIECES)
    near = torch.bincount(text[:-1] * known + text[1:], minlength=known**2).view(known, known).float()
    share = near.sum(0) / near.sum()
    after = (near + share) / (near.sum(1, keepdim=True) + 1)
    before = (near.T + share) / (near.sum(0)[:, None] + 1)
    both = after[left] * before[right] / share.clamp(min=1e-9)
    alone = share.expand(len(left), -1)
    return {"most frequent letter": alone, "left neighbour": after[left], "right": before[right], "both": both}


def ends_by_pairs(
    tokens: Int[Tensor, "b m"], ends: Bool[Tensor, "b n"], asked: Int[Tensor, "k m"]
) -> Bool[Tensor, "k n-1"]:
    """Whether a word ends between two letters, by what is more frequent between these two in labelled stretches."""
    known = len(PIECES)
    seen, inner = tokens[:, 1:-2] * known + tokens[:, 2:-1], ends[:, :-1].flatten()
    total = torch.bincount(seen.flatten(), minlength=known**2)
    ended = torch.bincount(seen.flatten()[inner], minlength=known**2)
    share = (ended + 2 * inner.float().mean()) / (total + 2)
    return share[asked[:, 1:-2] * known + asked[:, 2:-1]] > 0.5


def f1(found: Bool[Tensor, "*b"], right: Bool[Tensor, "*b"]) -> float:
    """Twice what both have, over what each has: 1 where they agree, 0 where nothing right is found.

    It is not a number where there is nothing to find and nothing is found.
    """
    return (2 * (found & right).sum() / (found.sum() + right.sum())).item()
