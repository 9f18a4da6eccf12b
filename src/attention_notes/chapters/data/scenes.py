"""Scanned digits pasted on photographs: real pixels, and a name for each of them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attention_notes.chapters.data import digits, photograph


def scenes(
    count: int,
    *,
    size: tuple[int, int] = (48, 64),
    digit: int = 20,
    per_scene: int = 2,
    seed: int,
    held_out: bool = False,
) -> tuple[Float[Tensor, "b 3 y x"], Int[Tensor, "b y x"]]:
    """Images with the class of every pixel: 0 for the ground, ``1 + d`` for the ink of a digit ``d``.

    The ground is a crop of one of the two photographs, at half their size. Digits are those of ``digits``, enlarged,
    tinted at random, light on dark ground and dark on light, wherever chance puts them, a later one over an earlier.

    Args:
        count: number of images.
        size: height and width of an image.
        digit: height and width of a digit.
        per_scene: digits in each image.
        seed: of all that is left to chance.
        held_out: whether to take digits and photograph parts that are held out: the test digits, and the right third
            of each photograph instead of its left two thirds.

    Raises:
        ValueError: if a digit does not fit the image, or the image does not fit the part of the photograph.
    """
    draw = torch.Generator().manual_seed(seed)
    (y, x), (shapes, names) = size, digits()[held_out]
    grounds = [_ground(name, held_out) for name in ("china", "flower")]
    fits = (min(g.shape[1] for g in grounds), min(g.shape[2] for g in grounds))
    if digit > min(size) or y > fits[0] or x > fits[1]:
        raise ValueError(f"size={size} must hold digits of {digit} x {digit} and fit into a photograph's {fits}")

    def random(high: int) -> int:
        return int(torch.randint(high, (), generator=draw))

    images, labels = torch.empty(count, 3, y, x), torch.zeros(count, y, x, dtype=torch.long)
    for image, label in zip(images, labels, strict=True):
        ground = grounds[random(2)]
        top, left = random(ground.shape[1] - y + 1), random(ground.shape[2] - x + 1)
        image.copy_(ground[:, top : top + y, left : left + x])
        for _ in range(per_scene):
            which, top, left = random(len(shapes)), random(y - digit + 1), random(x - digit + 1)
            ink = F.interpolate(shapes[which][None], size=digit, mode="bicubic", align_corners=False)[0].clamp(0, 1)
            place = image[:, top : top + digit, left : left + digit]
            colour = torch.rand(3, 1, 1, generator=draw) * 0.4 + 0.6 * (place.mean() < 0.5)  # stands out
            place.lerp_(colour.expand_as(place), ink.expand_as(place))
            label[top : top + digit, left : left + digit][ink[0] > 0.5] = 1 + int(names[which])
    return images, labels


def _ground(name: str, held_out: bool) -> Tensor:
    half = F.avg_pool2d(photograph(name), 2)
    split = half.shape[2] * 2 // 3
    return half[:, :, split:] if held_out else half[:, :, :split]
