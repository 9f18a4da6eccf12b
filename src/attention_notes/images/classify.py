"""Name what is on pictures."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from attention_notes.images import Preprocessing, Readable, Source
from attention_notes.images.imagenet_names import names as names_of
from attention_notes.nn.sizes import Size, pair

Many = list[Any] | tuple[Any, ...] | Iterator[Any]  # of images


@dataclass(frozen=True)
class Prediction:
    """A class and its predicted probability."""

    name: str
    probability: float
    index: int


@overload
def predict(
    model: nn.Module,
    image: Source,
    *,
    top: int = ...,
    preprocessing: Preprocessing | None = ...,
    names: Sequence[str] | None = ...,
    size: Size | None = ...,
    batch: int = ...,
) -> list[Prediction]: ...


@overload
def predict(
    model: nn.Module,
    image: Many,
    *,
    top: int = ...,
    preprocessing: Preprocessing | None = ...,
    names: Sequence[str] | None = ...,
    size: Size | None = ...,
    batch: int = ...,
) -> list[list[Prediction]]: ...


def predict(
    model: nn.Module,
    image: Source | Many,
    *,
    top: int = 5,
    preprocessing: Preprocessing | None = None,
    names: Sequence[str] | None = None,
    size: Size | None = None,
    batch: int = 16,
) -> list[Prediction] | list[list[Prediction]]:
    """The ``top`` classes that a model sees in an image, the likeliest first; of many images, a list for each.

    The model runs in evaluation mode, on its own device and in its own dtype, and is left as it was found; the softmax
    is taken in float32.

    Args:
        model: a classifier; one with official weights brings with it what follows.
        image: whatever ``read_image`` takes; or a list, a tuple or an iterator of such.
        top: how many classes, all of them where the model has fewer.
        preprocessing: what the model was trained to see; that of ``model.checkpoint`` when not given.
        names: of all classes, in the order of the logits; those of ``model.checkpoint`` when not given.
        size: height and width of the model's input in pixels; ``input_size(model)`` when not given.
        batch: how many of many images the model is given at once.

    Raises:
        ValueError: if the model has no head, answers otherwise than with one finite logit for each name, or does not
            bring what is not given; and what ``read_image`` and ``Preprocessing`` raise.
    """
    if top < 1:
        raise ValueError(f"top={top}: ask for one class or more")
    if batch < 1:
        raise ValueError(f"batch={batch}: the model is given one image or more at once")
    _check_head(model)
    preprocessing, names = _equipment(model, preprocessing, names)
    size = input_size(model) if size is None else size
    many = isinstance(image, list | tuple | Iterator) and not isinstance(image, Readable)
    waiting: Iterator[Any] = iter(cast(Many, image) if many else [image])
    found = list[list[Prediction]]()
    while some := [preprocessing(one, size=size) for one in islice(waiting, batch)]:
        found += _classes(model, torch.cat(some), names, top=top)
    return found if many else found[0]


def _classes(model: nn.Module, images: Tensor, names: Sequence[str], *, top: int) -> Iterable[list[Prediction]]:
    """The likeliest classes of each image of a batch."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), images)
    # not inference_mode: what a model caches here it may need in training later
    with torch.no_grad(), _evaluating(model):
        logits = model(images.to(weight))
    _check_logits(logits, names, type(model).__name__, images=len(images))
    found = logits.float().softmax(-1).topk(min(top, len(names)))
    for probabilities, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True):
        pairs = zip(probabilities, indices, strict=True)
        yield [Prediction(names[index], probability, index) for probability, index in pairs]


def input_size(model: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of the images that a model takes.

    It is that of the patches, also after ``resize``. A model that takes any size is given that of its weights: the one
    they were tuned to, or else the 224 pixels of all trainings on ImageNet that are published for such models.

    Raises:
        ValueError: if the model takes any size and has no official weights.
    """
    for holder in (model, getattr(model, "encoder", None)):
        if size := getattr(getattr(holder, "patches", None), "image_size", None):
            return pair(size)
    if checkpoint := getattr(model, "checkpoint", None):
        return pair(checkpoint.size or 224)
    raise ValueError(f"{type(model).__name__} does not say which size its images have: give size=(height, width)")


def _equipment(
    model: nn.Module, preprocessing: Preprocessing | None, names: Sequence[str] | None
) -> tuple[Preprocessing, Sequence[str]]:
    """What was given, and where it was not, what belongs to the model's weights."""
    checkpoint: Any = getattr(model, "checkpoint", None)
    if checkpoint is not None:
        preprocessing = preprocessing or checkpoint.input
        names = names_of(checkpoint.labels) if names is None and checkpoint.labels else names
    missing = [word for word, value in (("preprocessing", preprocessing), ("names", names)) if value is None]
    if preprocessing is None or names is None:
        origin = "no official weights" if checkpoint is None else "weights whose classes have no names"
        raise ValueError(
            f"this {type(model).__name__} has {origin}: give {' and '.join(f'{word}=' for word in missing)}, what it "
            "was trained with, or build it with pretrained=True"
        )
    return preprocessing, names


def _check_head(model: nn.Module) -> None:
    for name in ("head", "class_head"):
        if isinstance(getattr(model, name, None), nn.Identity):
            raise ValueError(
                f"this {type(model).__name__} has no head, it answers with features: build it with num_classes, or "
                "load weights that have one"
            )


def _check_logits(logits: Tensor, names: Sequence[str], kind: str, *, images: int) -> None:
    if logits.ndim != 2 or len(logits) != images:
        shape = tuple(logits.shape)
        raise ValueError(f"{kind} answers with a tensor of shape {shape}, not one row of logits for each image")
    if logits.shape[1] != len(names):
        raise ValueError(
            f"{kind} answers with {logits.shape[1]} logits, but there are {len(names)} names: give names= of its own"
        )
    if not logits.isfinite().all():
        raise ValueError(
            f"{kind} answers with logits that are not finite in {logits.dtype}: its weights are damaged, or "
            "their numbers are too large for it"
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every module as it was: some may have been frozen while others train."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was in training:
            module.training = was
