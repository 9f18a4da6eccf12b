"""A recipe: everything that decides what a training comes to, as data in a file.

What only decides how fast it goes there (processes, precision, the size of a step's parts) is not in it.
"""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

OWN = Path(__file__).with_name("recipes")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Data:
    """Which images, and how they are prepared.

    Args:
        name: a set of ``data.SETS``: ``digits``, ``fashion_mnist``, ``cifar10``, ``cifar100``, ``folder``.
        size: pixels of a side of what the model is given.
        mean: of each channel, from 0 to 1.
        std: deviation of each channel.
        crop: in evaluation, the share of a scaled image's side that is cut from its middle; for folders.
        interpolation: how images are scaled, ``bicubic`` or ``bilinear``.
        fit: how images of one size come to be of another: ``pad`` with zeros, or ``scale``; folders are scaled.
        images: train on so many alone, drawn once, the same for every seed; all if None.
        validation: hold out so many of the images to train on in place of those to test with, to choose by.
    """

    name: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 0.875
    interpolation: str = "bicubic"
    fit: str = "pad"
    images: int | None = None
    validation: int = 0


@dataclass(frozen=True)
class Augment:
    """What happens to images in training; what is not named does not happen.

    Args:
        area: the least and the largest share of an image that is cut out and scaled to ``size``; for folders.
        shift: by how many pixels at most an image is moved, in its plane; for sets of one size.
        flip: probability of a mirror image.
        jitter: of brightness, contrast and saturation, as a share.
        rand_augment: operations and strength as timm writes them, such as ``rand-m9-mstd0.5-inc1``.
        three: one of greyscale, solarisation and blur (DeiT III, section 3).
        erase: probability that a rectangle is filled with noise.
        mixup: alpha of the Beta distribution; 0 is without.
        cutmix: alpha of the Beta distribution; 0 is without.
        switch: probability of CutMix where there are both.
        repeats: how often an image comes in an epoch, of which there are then fewer.
    """

    area: tuple[float, ...] | None = None
    shift: int = 0
    flip: float = 0.0
    jitter: float = 0.0
    rand_augment: str | None = None
    three: bool = False
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    switch: float = 0.5
    repeats: int = 1


@dataclass(frozen=True)
class Optimise:
    """How weights move.

    Args:
        epochs: passes over the images.
        batch: images of a step, of all processes together.
        optimizer: a name of ``optimise.OPTIMIZERS``: ``adamw``, ``lamb``, ``sgd``.
        lr: the largest rate.
        lr_per: the rate is for so many images a step, and grows with the batch; None takes it as it is.
        weight_decay: of what is decayed; see ``VisionModel.parameter_groups``.
        layer_decay: factor on the rate from one block to the one before it.
        warmup_epochs: in which the rate grows from ``warmup_lr`` to ``lr``.
        warmup_lr: the first rate.
        min_lr: the last rate; both grow with the batch as ``lr`` does.
        cosine_after_warmup: whether the cosine starts when the warm-up ends; else it started with the training, and
            the warm-up hides its beginning.
        betas: of Adam and LAMB.
        eps: of Adam and LAMB.
        momentum: of SGD.
        clip: largest norm of the gradient; None is without.
        ema: factor of the moving average of the weights; None is without.
    """

    epochs: float
    batch: int
    optimizer: str
    lr: float
    lr_per: int | None = None
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    min_lr: float = 0.0
    cosine_after_warmup: bool = True
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    clip: float | None = None
    ema: float | None = None


@dataclass(frozen=True)
class Objective:
    """What is minimised: ``cross_entropy``, or ``binary`` for one yes or no a class; with ``smoothing`` of labels."""

    loss: str = "cross_entropy"
    smoothing: float = 0.0


@dataclass(frozen=True)
class Distil:
    """A teacher, by its name in the registry, with its weights: a file, a repository of the hub, or its first one.

    ``options`` are those of its factory, for a teacher of other sizes than its name has. ``kind`` is ``hard`` or
    ``soft``; ``tau`` and ``weight`` are of the soft kind (DeiT, equations 2 and 3).
    """

    teacher: str
    weights: str | None = None
    kind: str = "hard"
    tau: float = 3.0
    weight: float = 0.5
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """All of it; the first five say where it comes from, what it costs, what comes out, and how it is started."""

    title: str
    paper: str
    cost: str
    expect: str
    command: str
    model: str
    data: Data
    optimise: Optimise
    options: Mapping[str, Any] = field(default_factory=dict)
    augment: Augment = Augment()
    objective: Objective = Objective()
    distil: Distil | None = None
    seed: int = 0

    @property
    def decides(self) -> dict[str, Any]:
        """What decides the weights that come out, as plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in plain.items() if name not in _TOLD}

    @property
    def digest(self) -> str:
        """A number for ``decides``."""
        return hashlib.sha256(json.dumps(self.decides, sort_keys=True).encode()).hexdigest()[:16]


_TOLD = ("title", "paper", "cost", "expect", "command")
CHOICES = {
    "objective.loss": ("cross_entropy", "binary"),
    "distil.kind": ("hard", "soft"),
    "data.interpolation": ("bicubic", "bilinear"),
    "data.fit": ("pad", "scale"),
    "optimise.optimizer": ("adamw", "lamb", "sgd"),
}
# (lowest, highest) of what is a number; a bound that is None does not bind
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "data.size": (1, None),
    "data.crop": (0.01, 1),
    "data.images": (1, None),
    "data.validation": (0, None),
    "augment.shift": (0, None),
    "augment.flip": (0, 1),
    "augment.jitter": (0, None),
    "augment.erase": (0, 1),
    "augment.mixup": (0, None),
    "augment.cutmix": (0, None),
    "augment.switch": (0, 1),
    "augment.repeats": (1, None),
    "optimise.epochs": (0, None),
    "optimise.batch": (1, None),
    "optimise.lr": (0, None),
    "optimise.lr_per": (1, None),
    "optimise.weight_decay": (0, None),
    "optimise.layer_decay": (1e-6, 1),
    "optimise.warmup_epochs": (0, None),
    "optimise.warmup_lr": (0, None),
    "optimise.min_lr": (0, None),
    "optimise.clip": (1e-12, None),
    "optimise.ema": (0, 1),
    "objective.smoothing": (0, 1),
    "distil.weight": (0, 1),
    "distil.tau": (1e-6, None),
    "seed": (0, None),
}


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in OWN.glob("*.yml"))


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by its name or from a file, with some of its values changed.

    Args:
        name: of a recipe of the package, or the path of a ``.yml`` file.
        changes: such as ``"optimise.lr=1e-3"``.

    Raises:
        ValueError: if there is no such recipe, or if what it says is not understood; names the place.
    """
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = OWN / f"{name}.yml"
        if str(name) not in names():
            near = difflib.get_close_matches(str(name), names(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"no recipe {str(name)!r}; {hint}there are {', '.join(names())}, or give a .yml file")
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise ValueError(f"{path} holds no recipe: it must be a mapping with {', '.join(_fields(Recipe))}")
    for change in changes:
        _change(said, change)
    try:
        return _checked(_made(Recipe, said, ""))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _change(said: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    if not equals:
        raise ValueError(f"{change!r} changes nothing: write name=value, such as optimise.lr=1e-3")
    *sections, last = name.strip().split(".")
    place = said
    for section in sections:
        inside = place.get(section)
        place[section] = place = {} if inside is None else inside
        if not isinstance(place, dict):
            raise ValueError(f"{name}: {section} has no parts")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{change!r}: {text!r} is no value") from None


def _fields(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _made(kind: type[Made], said: Any, where: str) -> Made:
    """A dataclass from a mapping, with each value of the kind that its field names."""
    if not isinstance(said, Mapping):
        raise ValueError(f"{where.rstrip('.')}: {said!r} is no mapping; its names are {', '.join(_fields(kind))}")
    known = _fields(kind)
    for name in said:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown {where}{name}; {hint}known: {', '.join(known)}")
    hints = typing.get_type_hints(kind)
    needed = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := [f"{where}{name}" for name in needed if name not in said]:
        raise ValueError(f"{', '.join(missing)} must be given")
    return kind(**{name: _value(hints[name], value, f"{where}{name}") for name, value in said.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """``value`` as what ``hint`` says, or an error."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(a for a in arguments if a is not types.NoneType), value, where)
    if dataclasses.is_dataclass(hint):
        return _made(typing.cast(Any, hint), value, f"{where}.")
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{where}: {value!r} is no list of numbers")
        return tuple(_value(arguments[0], one, where) for one in value)
    if typing.get_origin(hint) is not None:  # a mapping
        if not isinstance(value, dict):
            raise ValueError(f"{where}: {value!r} is no mapping of names to values")
        return dict(value)
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, str):  # YAML reads 1e-3 as a word
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{where}: {value!r} is no number") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is str and isinstance(value, str):
        return " ".join(value.split())
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        kinds = {int: "whole number", float: "number", str: "text", bool: "true or false"}
        raise ValueError(f"{where}: {value!r} is no {kinds[hint]}")
    if hint is float and value != value:
        raise ValueError(f"{where}: {value!r} is no number")
    return value


def _checked(recipe: Recipe) -> Recipe:
    plain = dataclasses.asdict(recipe)
    flat = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    for section in ("data", "augment", "optimise", "objective", "distil"):
        flat |= {f"{section}.{name}": value for name, value in (plain[section] or {}).items()}
    for name, allowed in CHOICES.items():
        if name in flat and flat[name] not in allowed:
            raise ValueError(f"{name}: {flat[name]!r} is unknown; known: {', '.join(allowed)}")
    for name, (low, high) in BOUNDS.items():
        value = flat.get(name)
        if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
            bounds = f"{low} or more" if high is None else f"from {low} to {high}"
            raise ValueError(f"{name}: {value} must be {bounds}")
    if len(recipe.data.mean) != len(recipe.data.std) or min(recipe.data.std) <= 0:
        raise ValueError(
            f"data: mean {recipe.data.mean} and std {recipe.data.std} need a number for each channel, std above 0"
        )
    if recipe.augment.area is not None and not (
        len(recipe.augment.area) == 2 and 0 < recipe.augment.area[0] <= recipe.augment.area[1] <= 1
    ):
        raise ValueError(f"augment.area: {recipe.augment.area} must be two shares, the lower first, such as [0.08, 1]")
    if len(recipe.optimise.betas) != 2 or not all(0 <= b < 1 for b in recipe.optimise.betas):
        raise ValueError(f"optimise.betas: {recipe.optimise.betas} must be two numbers from 0 to below 1")
    if recipe.optimise.warmup_epochs > recipe.optimise.epochs:
        raise ValueError(
            f"optimise.warmup_epochs: {recipe.optimise.warmup_epochs} is longer than all of the "
            f"{recipe.optimise.epochs} epochs"
        )
    return recipe
