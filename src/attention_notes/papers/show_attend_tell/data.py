"""Scenes of one or two scanned digits on paper, and what they show, in words."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attention_notes.chapters.data import digits

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOCABULARY = ("<end>", "<start>", "a", "an", "above", "left", "of", *DIGITS)
END, START = 0, 1
LONGEST = 7  # a three left of a seven, and the end
_INDEX = {word: i for i, word in enumerate(VOCABULARY)}


class Scenes(NamedTuple):
    """Images with captions; ``places`` is the cell of the digit that each word names, -1 where it names none."""

    images: Float[Tensor, "b 1 y x"]
    given: Int[Tensor, "b 7"]
    targets: Int[Tensor, "b 7"]
    present: Bool[Tensor, "b 7"]
    places: Int[Tensor, "b 7"]


def caption(names: list[int], *, above: bool) -> str:
    """What is said of a scene: ``a three``, ``a three above a seven`` or ``a three left of an eight``."""
    said = [f"{'an' if DIGITS[name] == 'eight' else 'a'} {DIGITS[name]}" for name in names]
    return (" above " if above else " left of ").join(said)


def encode(sentence: str) -> list[int]:
    """The numbers of the words, with the end.

    Raises:
        ValueError: if a word is not in ``VOCABULARY``.
    """
    words = sentence.split()
    if unknown := [word for word in words if word not in _INDEX]:
        raise ValueError(f"unknown words {unknown}; known: {', '.join(VOCABULARY)}")
    return [*(_INDEX[word] for word in words), END]


def _sentences() -> Int[Tensor, "10 10 3 7"]:
    """The numbers of the words for each first and second digit: left of, above, and the first one alone."""
    said = [
        encode(text) for a in range(10) for b in range(10)
        for text in (caption([a, b], above=False), caption([a, b], above=True), caption([a], above=False))
    ]  # fmt: skip
    return torch.tensor([tokens + [END] * (LONGEST - len(tokens)) for tokens in said]).view(10, 10, 3, LONGEST)


def decode(tokens: list[int]) -> str:
    """The words up to the end."""
    stop = tokens.index(END) if END in tokens else len(tokens)
    return " ".join(VOCABULARY[token] for token in tokens[:stop])


def scenes(count: int, *, seed: int, side: int = 3, held_out: bool = False) -> Scenes:
    """Scanned digits in the cells of a grid, dark on light paper, and their captions.

    One scene in four has a single digit, the others have two in different cells. The first to be named is the upper,
    or, in the same row, the left one.

    Args:
        count: number of scenes.
        seed: of all that is left to chance.
        side: cells of a row and of a column; a cell has 8 x 8 pixels.
        held_out: whether to take digits that are held out.

    Raises:
        ValueError: if the grid has no room for two digits.
    """
    if side < 2:
        raise ValueError(f"side={side}: a grid of one cell has no room for two digits; choose 2 or more")
    draw = torch.Generator().manual_seed(seed)
    shapes, labels = digits()[held_out]
    which = torch.randint(len(shapes), (count, 2), generator=draw)
    cells = torch.rand(count, side * side, generator=draw).argsort(1)[:, :2].sort(1).values  # in reading order
    single = torch.rand(count, generator=draw) < 0.25
    ink = torch.zeros(count, side * side, 8, 8)
    rows = torch.arange(count)
    ink[rows, cells[:, 0]] = shapes[which[:, 0], 0]
    ink[rows[~single], cells[~single, 1]] = shapes[which[~single, 1], 0]
    images = 1 - nn.functional.pixel_shuffle(ink.flatten(2).transpose(1, 2).unflatten(2, (side, side)), 8)
    upper, lower = cells.unbind(1)
    first, second = labels[which].unbind(1)
    kind = torch.where(single, 2, (upper // side != lower // side).long())  # left of, above, alone
    targets = _sentences()[first, second, kind]
    length = 1 + (targets != END).sum(1, keepdim=True)
    present = torch.arange(LONGEST) < length
    places = torch.full((count, LONGEST), -1)
    places[:, 1] = upper
    places[rows[~single], length[~single, 0] - 2] = lower[~single]
    given = torch.cat([torch.full((count, 1), START), targets[:, :-1]], 1)
    return Scenes(images, given, targets, present, places)


def placed(maps: Float[Tensor, "b d y x"]) -> Float[Tensor, "b e y x"]:
    """A map to whose channels the number of the row and of the column is added, each as a one among zeros."""
    batch, _, height, width = maps.shape
    row = torch.eye(height, device=maps.device)[:, :, None].expand(-1, -1, width)
    column = torch.eye(width, device=maps.device)[:, None, :].expand(-1, height, -1)
    return torch.cat([maps, torch.cat([row, column]).expand(batch, -1, -1, -1)], 1)
