"""The published weights that are known: for each paper those of ``papers/<key>/checkpoints.yml``.

A list names, for each variant, the repositories on the Hugging Face hub, the best first: that is the one of
``pretrained=True``. Of each:

    revision, sha256   the commit that is fetched and the checksum of its model.safetensors. Where they are missing,
                       nobody has looked them up yet, and the newest commit is taken, whose file must still have the
                       checksum that the hub gives; ``python -m attention_notes verify --pin`` writes them into the list
    labels             the names of its classes: imagenet (1,000) when not given, imagenet21k (21,843), imagenet22k
                       (21,841), or null where it has no head
    embedding          width of a head that names no classes, such as CLIP's
    size, window       what it was tuned to, where that is not the variant's own
    build              options of the factory for the model that was trained first, where they are not the variant's own
    input              how a photograph becomes its input: mean and deviation of the colours, interpolation, and the
                       share of the resized image that is cut from its centre (null: the whole, whatever its shape);
                       a model of text has none
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from attention_notes.images import Preprocessing

CLASSES = {"imagenet": 1000, "imagenet21k": 21843, "imagenet22k": 21841, None: None}
COLOURS = {
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "inception": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "clip": {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)},
}


@dataclass(frozen=True)
class Checkpoint:
    """Published weights of one variant.

    ``build`` are options of the factory for the model that was trained, ``size`` and ``window`` what it was tuned to
    afterwards, ``labels`` names its classes, ``embedding`` is the width of a head that has none, and ``input`` makes
    its input from a photograph; a model of text has no ``input``.
    """

    repo: str
    key: str
    variant: str
    input: Preprocessing | None = None
    revision: str | None = None
    sha256: str | None = None
    labels: str | None = "imagenet"
    size: int | None = None
    window: int | None = None
    embedding: int | None = None
    build: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int | None:
        """How wide its head is: how many classes it tells apart, or its ``embedding``; None where it has no head."""
        return self.embedding or CLASSES[self.labels]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the factory for the model that was trained."""
        return {**({"num_classes": self.classes} if self.input else {}), **self.build}

    @property
    def resize(self) -> dict[str, Any]:
        """Arguments of the model's ``resize`` that make it what it was tuned to; none where it was not."""
        return {k: v for k, v in (("image_size", self.size), ("window", self.window)) if v is not None}


@cache
def checkpoints() -> dict[str, Checkpoint]:
    """All published weights by their repository, in the order of the list: the best of a variant first."""
    found = (
        Checkpoint(key=key, variant=variant, **{**row, "input": _input(*row["input"]) if "input" in row else None})
        for key, file in lists().items()
        for variant, rows in yaml.safe_load(file.read_text("utf-8")).items()
        for row in rows
    )
    return {checkpoint.repo: checkpoint for checkpoint in found}


def lists() -> dict[str, Any]:
    """The lists of published weights: the file of each paper that has one, by its key."""
    folders = sorted((resources.files("attention_notes") / "papers").iterdir(), key=lambda folder: folder.name)
    return {folder.name: file for folder in folders if (file := folder / "checkpoints.yml").is_file()}


def find(key: str, variant: str, source: bool | str = True) -> Checkpoint:
    """The checkpoint with a repository's name, or the first of the variant.

    Raises:
        ValueError: if there is none, or if it is of another variant.
    """
    own = [c for c in checkpoints().values() if (c.key, c.variant) == (key, variant)]
    if source is True:
        if not own:
            others = dict.fromkeys(c.variant for c in checkpoints().values() if c.key == key)
            way = f"there are those of {', '.join(others)}" if others else "a file of your own is given as a Path"
            raise ValueError(f"nobody has published weights of {key} {variant!r} that are known here; {way}")
        return own[0]
    if (checkpoint := checkpoints().get(str(source))) is None:
        near = difflib.get_close_matches(str(source), checkpoints(), n=1, cutoff=0.7)
        known = ", ".join(dict.fromkeys([*near, *(c.repo for c in own)])) or "none"
        raise ValueError(f"unknown weights {source!r}; for {key} {variant!r}: {known}; a file is given as a Path")
    if checkpoint not in own:
        raise ValueError(
            f"{checkpoint.repo} holds weights of {checkpoint.key} {checkpoint.variant!r}, not of {key} {variant!r}"
        )
    return checkpoint


def _input(colours: str, interpolation: str, crop: float | None) -> Preprocessing:
    return Preprocessing(**COLOURS[colours], interpolation=interpolation, crop=crop)
