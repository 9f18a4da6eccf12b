"""What is done to an image before a model sees it, by torchvision's transforms, version 2."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attention_notes.registry.parity import installed
from attention_notes.training.recipe import Augment, Recipe


def for_training(recipe: Recipe) -> Callable[[Any], Tensor]:
    """What makes bytes ``ch y x`` from a picture, or from bytes ``ch y x``, as the recipe augments it.

    Where rectangles are erased, which fills them with noise, it is numbers for the model that come out.

    Raises:
        ValueError: if what it names is not installed, or not for this kind of images.
    """
    augment, data = recipe.augment, recipe.data
    steps: list[Callable[[Any], Any]] = []
    if data.name == "folder":
        v2, scaled = _v2(), _interpolation(data.interpolation)
        area = augment.area or (1.0, 1.0)
        steps.append(v2.RandomResizedCrop(data.size, scale=area, interpolation=scaled, antialias=True))
    elif augment.area is not None:
        raise ValueError(f"augment.area is for folders of pictures; move the images of {data.name} by augment.shift")
    else:
        steps.append(_fitted(recipe))
        if augment.shift:
            steps.append(_v2().RandomCrop(data.size, padding=augment.shift))
    if augment.flip:
        steps.append(_v2().RandomHorizontalFlip(augment.flip))
    if augment.rand_augment:
        steps.append(_rand_augment(augment.rand_augment, data.name, size=data.size, mean=data.mean))
    if augment.three:
        v2 = _v2()
        steps.append(v2.RandomChoice([v2.Grayscale(3), v2.RandomSolarize(128, p=1.0), v2.GaussianBlur(9, (0.1, 2.0))]))
    if augment.jitter:
        steps.append(_v2().ColorJitter(*[augment.jitter] * 3))
    steps.append(_bytes)
    if augment.erase:
        steps.append(Normalised(data.mean, data.std))
        steps.append(_v2().RandomErasing(augment.erase, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value="random"))
    return _Sequence(steps)


def draws(recipe: Recipe) -> bool:
    """Whether anything of an image is left to chance before it is in its batch."""
    plain = replace(recipe.augment, mixup=0.0, cutmix=0.0, switch=0.5, repeats=1)
    return recipe.data.name == "folder" or plain != Augment()


def for_evaluation(recipe: Recipe) -> Callable[[Any], Tensor]:
    """What makes bytes ``ch y x`` of an image that is held out: scaled and cut from the middle, or fitted."""
    data = recipe.data
    if data.name != "folder":
        return _Sequence([_fitted(recipe), _bytes])
    v2 = _v2()
    side = math.floor(data.size / data.crop)
    scaled = v2.Resize(side, interpolation=_interpolation(data.interpolation), antialias=True)
    return _Sequence([scaled, v2.CenterCrop(data.size), _bytes])


class _Sequence:
    """One after the other; unlike a lambda, it can be sent to a worker."""

    def __init__(self, steps: list[Callable[[Any], Any]]) -> None:
        self.steps = steps

    def __call__(self, image: Any) -> Any:
        for step in self.steps:
            image = step(image)
        return image


def _fitted(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    size = recipe.data.size
    if recipe.data.fit == "pad":
        return _Padded(size)
    made: Callable[[Tensor], Tensor] = _v2().Resize(
        (size, size), interpolation=_interpolation(recipe.data.interpolation), antialias=True
    )
    return made


class _Padded:
    """A border of zeros around the image, so that it has the model's size.

    Raises:
        ValueError: if the image is larger.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Tensor) -> Tensor:
        missing = [self.size - side for side in image.shape[-2:]]
        if min(missing) < 0:
            raise ValueError(
                f"data.size is {self.size}, and images have {image.shape[-2]} x {image.shape[-1]} pixels; "
                "data.fit=scale would make them smaller"
            )
        (y, x) = missing
        return torch.nn.functional.pad(image, (x // 2, x - x // 2, y // 2, y - y // 2))


def _bytes(image: Any) -> Tensor:
    """Of a picture, or those that are there."""
    if isinstance(image, Tensor):
        return image
    import numpy as np

    return torch.from_numpy(np.array(image)).movedim(-1, 0).contiguous()


class Normalised:
    """From bytes ``... ch y x`` to a mean of about 0 and a deviation of about 1 in each channel; else nothing.

    Raises:
        ValueError: for images of other channels.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        """Numbers as they are, bytes as the model takes them."""
        if images.shape[-3] != len(self.mean):
            raise ValueError(f"images have {images.shape[-3]} channels, and data.mean is of {len(self.mean)}")
        if images.dtype != torch.uint8:
            return images
        return (images / 255 - self.mean) / self.std


def _v2() -> Any:
    if not installed("torchvision"):
        raise ValueError('augmenting needs torchvision: pip install "attention-notes[train]"')
    from torchvision.transforms import v2

    return v2


def _interpolation(name: str) -> Any:
    return getattr(_v2().InterpolationMode, name.upper())


def _rand_augment(config: str, name: str, *, size: int, mean: tuple[float, ...]) -> Callable[[Any], Any]:
    """That of timm, which the papers' authors used; torchvision's has other operations and one strength."""
    if name != "folder":
        raise ValueError(f"augment.rand_augment is for folders of pictures, not for {name}")
    if not installed("timm"):
        raise ValueError('augment.rand_augment needs timm: pip install "attention-notes[train]"')
    from timm.data.auto_augment import rand_augment_transform

    colour = tuple(min(255, round(255 * value)) for value in mean)
    try:
        made: Any = rand_augment_transform(config, {"translate_const": int(size * 0.45), "img_mean": colour})
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(f"augment.rand_augment: timm does not understand {config!r} ({error})") from None
    for operation in made.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterised
    return made


def posterised(image: Any, bits: int, **_: Any) -> Any:
    """timm's operation, which at its largest strength keeps no bits: black, and since Pillow 13 an error."""
    from PIL import ImageOps

    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits > 0 else image.point(lambda _: 0)
