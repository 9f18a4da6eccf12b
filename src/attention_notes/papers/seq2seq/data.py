"""Short pieces of real English to copy, character by character."""

import re
from collections.abc import Iterable
from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor

from attention_notes.chapters.data import sentences

PADDING, START, END = 0, 1, 2
ALPHABET = " abcdefghijklmnopqrstuvwxyz"  # the character i is the token 3 + i
VOCABULARY = 3 + len(ALPHABET)


@cache
def _manual(held_out: bool) -> tuple[Tensor, Tensor]:
    """The tokens of the sentences, one after another, and for each how many follow it in its sentence, itself too."""
    chosen = [text for i, text in enumerate(sentences()) if (i % 10 == 9) == held_out]
    plain = [re.sub("[^a-z]+", " ", text.lower()).strip() for text in chosen]
    tokens = torch.tensor([3 + ALPHABET.index(letter) for text in plain for letter in text])
    return tokens, torch.cat([torch.arange(len(text), 0, -1) for text in plain])


def snippets(
    count: int, *, lengths: Iterable[int] = range(1, 21), seed: int, held_out: bool = False
) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b n"]]:
    """Pieces of Python's manual, in lower-case letters and spaces, as source and target of a copy.

    Args:
        count: number of pieces.
        lengths: the numbers of characters to choose from, each as often as any other.
        seed: of the choice.
        held_out: from every tenth sentence, from which otherwise no piece comes. A short piece can be in both.

    Returns:
        The source, the characters of each piece, and the target: the start, the same characters, the end. 0 fills up.

    Raises:
        ValueError: if there is no length, or one that no sentence has.
    """
    choice = torch.tensor([*lengths], dtype=torch.int64)
    tokens, room = _manual(held_out)
    if len(choice) == 0 or choice.min() < 1 or choice.max() > room.max():
        raise ValueError(f"lengths={choice.tolist()}: choose some from 1 to {room.max()}, the longest sentence")
    draw = torch.Generator().manual_seed(seed)
    of_each = choice[torch.randint(len(choice), (count,), generator=draw)]
    longest = int(of_each.max()) if count else 0
    source = torch.zeros(count, longest, dtype=torch.int64)
    target = torch.zeros(count, longest + 2, dtype=torch.int64)
    target[:, 0] = START
    for length in of_each.unique().tolist():
        rows = (of_each == length).nonzero()[:, 0]
        starts = (room >= length).nonzero()[:, 0]
        begin = starts[torch.randint(len(starts), (len(rows),), generator=draw)]
        piece = tokens[begin[:, None] + torch.arange(length)]
        source[rows, :length] = piece
        target[rows, 1 : length + 1] = piece
        target[rows, length + 1] = END
    return source, target
