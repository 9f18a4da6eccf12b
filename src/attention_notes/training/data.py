"""Images and labels to train on, from the files that others publish, in an order that depends on nothing but the seed.

Everything random about a sample follows from the recipe's seed, the epoch and the sample's place in it. So a batch is
the same whoever loads it: one process or eight, with any number of workers, from the start or resumed in the middle.
"""

import gzip
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from attention_notes.papers.deit import repeated_augmentation
from attention_notes.training.recipe import Recipe
from attention_notes.training.transforms import Normalised, draws, for_evaluation, for_training

FOUND_AT = {
    "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist (the four .gz files of its table; Debian's "
    "package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist)",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-10 binary version, unpacked)",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-100 binary version, unpacked)",
}


class Images(Dataset[Any]):
    """Images with labels, before anything is done to them.

    Args:
        classes: their names, by label.
    """

    classes: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Any:
        """One of them: a tensor ``ch y x`` of bytes, or a picture of Pillow.

        Raises:
            OSError: if its file cannot be read.
        """
        raise NotImplementedError


class Stored(Images):
    """Images that fit into memory, all of one size."""

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        self.images, self.labels, self.classes = images, labels.tolist(), classes

    def image(self, index: int) -> Tensor:
        """A tensor of bytes."""
        return self.images[index]


class Folder(Images):
    """A folder of each class with its pictures inside, as ImageNet is laid out.

    Raises:
        ValueError: if there is no class, or one without a picture.
    """

    def __init__(self, root: Path, suffixes: Sequence[str]) -> None:
        found = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not found:
            raise ValueError(f"{root} has no folders: each class is a folder with its pictures, as in {root}/cat/1.jpg")
        self.classes = [p.name for p in found]
        self.files: list[Path] = []
        self.labels = []
        empty = []
        for label, folder in enumerate(found):
            inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.name[0] != ".")
            self.files += inside
            self.labels += [label] * len(inside)
            empty += [folder.name] * (not inside)
        if empty:
            shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
            raise ValueError(f"{root}: no pictures in {shown}; remove what is no class, or put pictures there")

    def image(self, index: int) -> Image.Image:
        """A picture of Pillow, in colours."""
        path = self.files[index]
        try:
            with Image.open(path) as opened:
                return opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise OSError(f"{path}: {' '.join(str(error).split())}") from error


class Made(Images):
    """Pictures of noise, with the labels in turn: they show that a recipe runs, and nothing else."""

    def __init__(self, size: int, *, classes: int, count: int) -> None:
        self.size, self.classes = size, [str(label) for label in range(classes)]
        self.labels = [index % classes for index in range(count)]

    def image(self, index: int) -> Image.Image:
        """A picture of Pillow, wider than high, the same each time."""
        drawn = np.random.default_rng(index).integers(0, 256, (self.size, self.size * 5 // 4, 3), np.uint8)
        return Image.fromarray(drawn)


class Some(Images):
    """Those of others that stand at ``places``."""

    def __init__(self, images: Images, places: Sequence[int]) -> None:
        self.images, self.classes, self.places = images, images.classes, places
        self.labels = [images.labels[place] for place in places]

    def image(self, index: int) -> Any:
        """As the others have it."""
        return self.images.image(self.places[index])


@dataclass(frozen=True)
class Sets:
    """What is trained on, and what is held out."""

    train: Images
    held_out: Images


def _digits(root: Path | None) -> Sets:
    try:
        from attention_notes.chapters.data import digits

        sets = digits()
    except ImportError:
        raise ValueError('the digits come with scikit-learn: pip install "attention-notes[train]"') from None
    names = [str(digit) for digit in range(10)]
    return Sets(*(Stored((x * 255).round().byte(), labels, names) for x, labels in sets))


_FASHION = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def _fashion_mnist(root: Path | None) -> Sets:
    sets = []
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images = _idx(_file(root, f"{part}-images-idx3-ubyte", "fashion_mnist"), (28, 28))
        labels = _idx(_file(root, f"{part}-labels-idx1-ubyte", "fashion_mnist"), ())
        if len(images) != len(labels):
            raise ValueError(f"{root}: {len(images)} images and {len(labels)} labels of {part}, of {count:,}")
        sets.append(Stored(images[:, None], labels, _FASHION))
    return Sets(*sets)


def _file(root: Path | None, name: str, of: str) -> Path:
    if root is None:
        raise ValueError(
            f"{of} is not in the package: give --data the folder with its files, from {FOUND_AT[of]}, or a new folder "
            "and --download"
        )
    for path in (name, f"{name}.gz"):
        if found := sorted(root.rglob(path)):
            return found[0]
    raise ValueError(
        f"{root} has no {name}, nor {name}.gz: put there what you get from {FOUND_AT[of]}, or say --download"
    )


def _bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The bytes of an IDX file (LeCun): two zeros, the type, the number of axes, their lengths, the values."""
    held = _bytes(path)
    axes = 1 + len(shape)
    lengths = tuple(np.frombuffer(held[4 : 4 + 4 * axes], ">i4").tolist())
    if held[:4] != bytes([0, 0, 8, axes]) or lengths[1:] != shape or len(held) != 4 + 4 * axes + np.prod(lengths):
        raise ValueError(f"{path} is no whole IDX file of bytes, {' x '.join(['n', *map(str, shape)])}: get it again")
    return torch.frombuffer(bytearray(held[4 + 4 * axes :]), dtype=torch.uint8).reshape(lengths)


def _cifar(of: str, before: int, train: Sequence[str], test: str, names: str) -> Callable[[Path | None], Sets]:
    def read(root: Path | None) -> Sets:
        sets = []
        classes = _file(root, names, of).read_text("utf-8").split()
        for files in (train, [test]):
            rows = []
            for name in files:
                path = _file(root, name, of)
                held = np.frombuffer(_bytes(path), np.uint8)
                if not held.size or held.size % (before + 3072):
                    raise ValueError(f"{path} has {held.size} bytes, no multiple of {before + 3072}: get it again")
                rows.append(torch.from_numpy(held.reshape(-1, before + 3072).copy()))
            whole = torch.cat(rows)
            sets.append(Stored(whole[:, before:].reshape(-1, 3, 32, 32), whole[:, before - 1].long(), classes))
        return Sets(*sets)

    return read


def _folder(root: Path | None) -> Sets:
    from attention_notes.images import suffixes

    if root is None:
        raise ValueError("give --data a folder that has train/ and val/, with a folder of each class in both")
    parts = []
    for names in (("train",), ("val", "valid", "validation", "test")):
        found = [root / name for name in names if (root / name).is_dir()]
        if not found:
            raise ValueError(
                f"{root} has no folder {names[0]}/: it needs train/ and val/, with a folder of each class in both"
            )
        parts.append(Folder(found[0], suffixes()))
    train, held_out = parts
    if train.classes != held_out.classes:
        odd = sorted({*train.classes} ^ {*held_out.classes})
        raise ValueError(f"{root}: train/ and val/ do not have the same classes; {', '.join(odd[:5])} is in one alone")
    return Sets(train, held_out)


SETS: dict[str, Callable[[Path | None], Sets]] = {
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar("cifar10", 1, [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin", "batches.meta.txt"),
    "cifar100": _cifar("cifar100", 2, ["train.bin"], "test.bin", "fine_label_names.txt"),
    "folder": _folder,
}


def open_sets(recipe: Recipe, root: Path | None) -> Sets:
    """The recipe's images.

    Args:
        root: the folder that has them; the digits need none.

    Raises:
        ValueError: if there is no such set or folder, if its files are not what they should be, or if they hold fewer
            images than the recipe asks for.
    """
    name = recipe.data.name
    if name not in SETS:
        raise ValueError(f"unknown data.name {name!r}; known: {', '.join(SETS)}")
    if root is not None and not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    return _chosen(recipe, SETS[name](root))


def _chosen(recipe: Recipe, sets: Sets) -> Sets:
    """The images to train on that the recipe leaves, and those that it holds out; drawn without its seed."""
    count, held = recipe.data.images, recipe.data.validation
    if count is None and not held:
        return sets
    there = len(sets.train)
    wanted = there - held if count is None else count
    if wanted < 1 or wanted + held > there:
        raise ValueError(f"data.images={count} and data.validation={held} are more than the {there} images there are")
    drawn = torch.randperm(there, generator=torch.Generator().manual_seed(0)).tolist()
    held_out = Some(sets.train, drawn[there - held :]) if held else sets.held_out
    return Sets(Some(sets.train, drawn[:wanted]), held_out)


def number(*parts: int) -> int:
    """A number for a generator that follows from others, and from no two lists of them the same."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def reseed(*parts: int, others: bool) -> None:
    """Set torch's generator of the CPU and, for what draws from them, Python's and numpy's as well.

    ``torch.manual_seed`` would set those of all devices, which takes longer than most images do: 0.2 ms.
    """
    seed = number(*parts)
    torch.default_generator.manual_seed(seed)
    if others:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002


class Order:
    """Which image is where in an epoch.

    Args:
        count: of images.
        batch: of a step, of all processes together; what is left at the end of an epoch comes in another one.
        repeats: how often an image comes in an epoch.
        seed: of the recipe.

    Raises:
        ValueError: if there are fewer images than one step takes.
    """

    def __init__(self, count: int, *, batch: int, repeats: int, seed: int) -> None:
        self.count, self.batch, self.repeats, self.seed = count, batch, repeats, seed
        self.steps = count // batch
        if not self.steps:
            raise ValueError(f"optimise.batch is {batch}, and there are only {count} images: choose a smaller one")
        self._epoch, self._indices = -1, torch.empty(0)

    def __call__(self, step: int) -> list[tuple[int, int, int]]:
        """Epoch, place in it and index of each image of a step."""
        epoch, within = divmod(step, self.steps)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(number(self.seed, 0, epoch))
            self._indices = repeated_augmentation(self.count, repeats=self.repeats, generator=generator)
            self._epoch = epoch
        begin = within * self.batch
        indices = self._indices[begin : begin + self.batch].tolist()
        return [(epoch, place, index) for place, index in enumerate(indices, begin)]


class Parts(Sampler[list[tuple[int, int, int]]]):
    """What one process loads: from each step every ``processes``-th image, in ``accumulate`` parts."""

    def __init__(self, order: Order, *, steps: range, rank: int, processes: int, accumulate: int) -> None:
        self.order, self.steps = order, steps
        self.rank, self.processes, self.accumulate = rank, processes, accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        """The parts of each step, one after the other."""
        for step in self.steps:
            own = self.order(step)[self.rank :: self.processes]
            size = len(own) // self.accumulate
            for part in range(self.accumulate):
                yield own[part * size : (part + 1) * size]

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate


class Samples(Dataset[Any]):
    """Images as a model is given them.

    A picture that cannot be read is replaced by the one after it, and told: a training of days does not end for one
    file. Where a hundred in a row cannot be read, the folder is broken, and that is an error.
    """

    def __init__(self, images: Images, recipe: Recipe) -> None:
        self.images, self.transform, self.seed = images, for_training(recipe), recipe.seed
        self.drawn = draws(recipe)
        self.others = recipe.augment.rand_augment is not None  # timm draws from Python's and numpy's generators

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int, str]:
        epoch, place, index = key
        told = ""
        for offset in range(min(100, len(self.images))):
            at = (index + offset) % len(self.images)
            try:
                image = self.images.image(at)
            except OSError as error:
                told = told or str(error)
                continue
            if self.drawn:
                reseed(self.seed, 1, epoch, place, others=self.others)
            return self.transform(image), self.images.labels[at], told
        raise ValueError(f"a hundred pictures in a row cannot be read; the first: {told}")


class Batch:
    """A batch of samples: images ``b ch y x`` as numbers for the model, labels ``b``, and what could not be read."""

    def __init__(self, recipe: Recipe) -> None:
        self.normalised = Normalised(recipe.data.mean, recipe.data.std)

    def __call__(self, samples: list[tuple[Tensor, int, str]]) -> tuple[Tensor, Tensor, list[str]]:
        """All at once, which is quicker than one by one."""
        images, labels, told = zip(*samples, strict=True)
        return self.normalised(torch.stack(images)), torch.tensor(labels), [words for words in told if words]


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def training_batches(
    recipe: Recipe,
    images: Images,
    order: Order,
    *,
    steps: range,
    rank: int,
    processes: int,
    accumulate: int,
    workers: int,
    pinned: bool,
) -> DataLoader[Any]:
    """The parts of each step for one process: images ``b ch y x``, labels ``b``, and what could not be read."""
    return DataLoader(
        Samples(images, recipe),
        batch_sampler=Parts(order, steps=steps, rank=rank, processes=processes, accumulate=accumulate),
        num_workers=workers,
        collate_fn=Batch(recipe),
        pin_memory=pinned,
        worker_init_fn=_one_thread,
        persistent_workers=False,
    )


class Rounds(Sampler[list[tuple[int, int, int]]]):
    """The held-out images once; each process has as many batches of one size, filled up with images to be ignored."""

    def __init__(self, count: int, *, batch: int, rank: int, processes: int, begin: int = 0) -> None:
        self.count, self.batch, self.rank, self.processes = count, batch, rank, processes
        self.begins = range(0, count, batch * processes)[begin:]

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        """Each with the place -1 where it only fills up."""
        for begin in self.begins:
            places = range(begin + self.rank, begin + self.batch * self.processes, self.processes)
            yield [(0, place if place < self.count else -1, place % self.count) for place in places]

    def __len__(self) -> int:
        return len(self.begins)


class HeldOut(Dataset[Any]):
    """The held-out images, each with its label, or with -1 where it only fills up a batch."""

    def __init__(self, images: Images, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int, str]:
        _, place, index = key
        try:
            image = self.images.image(index)
        except OSError as error:
            raise ValueError(
                f"of the held-out images, {error}: mend it or remove it, or the result is of others"
            ) from None
        return self.transform(image), self.images.labels[index] if place >= 0 else -1, ""


def evaluation_batches(
    recipe: Recipe,
    images: Images,
    *,
    batch: int,
    rank: int,
    processes: int,
    workers: int,
    pinned: bool,
    begin: int = 0,
) -> DataLoader[Any]:
    """The held-out images for one process from a batch on: images, and labels that are -1 where one was filled up."""
    return DataLoader(
        HeldOut(images, for_evaluation(recipe)),
        batch_sampler=Rounds(len(images), batch=batch, rank=rank, processes=processes, begin=begin),
        num_workers=workers,
        collate_fn=Batch(recipe),
        pin_memory=pinned,
        worker_init_fn=_one_thread,
    )
