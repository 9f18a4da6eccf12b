"""A clip that pans over a photograph, and games of memory to be played with any labelled images."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attention_notes.chapters.data import photograph


def panning(
    *,
    frames: int = 4,
    size: tuple[int, int] = (24, 32),
    start: tuple[int, int] = (28, 8),
    step: tuple[int, int] = (2, 6),
) -> Float[Tensor, "3 t y x"]:
    """A clip of the temple at a quarter of its size, seen through a window that moves down and right at every frame.

    Raises:
        ValueError: if the window leaves the photograph.
    """
    scene = F.avg_pool2d(photograph("china"), 4)
    (y, x), (top, left), (down, right) = size, start, step
    reach = top + (frames - 1) * down + y, left + (frames - 1) * right + x
    if reach[0] > scene.shape[1] or reach[1] > scene.shape[2]:
        raise ValueError(
            f"the window reaches {reach[0]} x {reach[1]}, but the scene has {tuple(scene.shape[1:])} pixels"
        )
    corners = [(top + t * down, left + t * right) for t in range(frames)]
    return torch.stack([scene[:, r : r + y, c : c + x] for r, c in corners], dim=1)


def memory_games(
    labels: Int[Tensor, " k"], count: int, *, frames: int = 6, generator: torch.Generator
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b 2"]]:
    """Deal ``b`` rows of images: in each, two frames show the same class, in two images; all others differ.

    Args:
        labels: classes of the ``k`` images to deal from, counted from 0.
        count: number of games ``b``.
        frames: frames of a game ``t``, at most one for each class.
        generator: of all that is left to chance; on the CPU, as the labels are.

    Returns:
        The images by their index, and the two frames that match, the earlier first.

    Raises:
        ValueError: if there are fewer than 2 frames, or more than classes.
    """
    sizes = labels.bincount()
    if not 2 <= frames <= len(sizes):
        raise ValueError(f"frames={frames}: a pair needs 2, and more than {len(sizes)} would show another class twice")
    fewest = int(sizes.min())
    table = torch.stack([(labels == name).nonzero()[:fewest, 0] for name in range(len(sizes))])
    places = torch.rand(count, frames, generator=generator).argsort(1)[:, :2].sort(1).values
    names = torch.rand(count, len(sizes), generator=generator).argsort(1)[:, :frames]
    names.scatter_(1, places[:, 1:], names.gather(1, places[:, :1]))
    which = torch.randint(fewest, (count, frames), generator=generator)
    other = which.gather(1, places[:, :1]) + torch.randint(1, fewest, (count, 1), generator=generator)
    which.scatter_(1, places[:, 1:], other % fewest)  # never the same image
    return table[names, which], places
