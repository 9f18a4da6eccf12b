"""A text as numbers."""

import re
from collections import Counter

import torch
from jaxtyping import Int
from torch import Tensor


def vocabulary(text: list[str], *, at_least: int = 10) -> tuple[list[str], list[list[int]], Int[Tensor, " v"]]:
    """The words of a text, its sentences as their numbers, and how often each occurs.

    Letters count, case does not. Words that are rarer than ``at_least``, and those of one or two letters, are left out
    before windows are laid, so that their neighbours move together.

    Args:
        text: sentences.
        at_least: how often a word must occur.

    Returns:
        The words, the most frequent first; the sentences; the counts.
    """
    spoken = [[w for w in re.findall("[a-z]+", sentence.lower()) if len(w) > 2] for sentence in text]
    counted = [(w, n) for w, n in Counter(w for s in spoken for w in s).most_common() if n >= at_least]
    index = {word: i for i, (word, _) in enumerate(counted)}
    sentences = [[index[w] for w in sentence if w in index] for sentence in spoken]
    return [*index], sentences, torch.tensor([n for _, n in counted], dtype=torch.int64)
