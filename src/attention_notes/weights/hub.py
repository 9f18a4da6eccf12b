"""Official weights: which there are, and how they come here.

What is published is listed in ``weights/checkpoints.yml``. Files come through ``huggingface_hub``, with its cache, its
tokens and its ``HF_ENDPOINT`` for a mirror, and are compared with their checksums.
"""

import difflib
import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from attention_notes.images import Preprocessing

CLASSES = {"imagenet": 1000, "imagenet21k": 21843, "imagenet22k": 21841, None: None}
FILES = ("model.safetensors", "pytorch_model.bin")
_COLOURS = {
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "inception": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
}


class HubError(RuntimeError):
    """Weights could not be had: no network, a hub that does not answer, or a file that is not what was published."""


@dataclass(frozen=True)
class Checkpoint:
    """Published weights of one variant.

    ``build`` are options of the factory for the model that was trained, ``size`` and ``window`` what it was tuned to
    afterwards, ``labels`` names its classes, and ``input`` makes its input from a photograph.
    """

    repo: str
    key: str
    variant: str
    input: Preprocessing
    revision: str | None = None
    sha256: str | None = None
    labels: str | None = "imagenet"
    size: int | None = None
    window: int | None = None
    build: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart, None where it has no head."""
        return CLASSES[self.labels]

    @property
    def resize(self) -> dict[str, Any]:
        """Arguments of the model's ``resize`` that make it what it was tuned to; none where it was not."""
        return {k: v for k, v in (("image_size", self.size), ("window", self.window)) if v is not None}


class Published(NamedTuple):
    """A file on the hub: its name, its commit, and its checksum, SHA-256 where it is a large one."""

    name: str
    revision: str
    checksum: str


@cache
def checkpoints() -> dict[str, Checkpoint]:
    """All published weights by their repository, in the order of the list: the best of a variant first."""
    listed = yaml.safe_load(resources.files("attention_notes.weights").joinpath("checkpoints.yml").read_text("utf-8"))
    found = (
        Checkpoint(key=key, variant=variant, **{**row, "input": _input(*row["input"])})
        for key, variants in listed.items()
        for variant, rows in variants.items()
        for row in rows
    )
    return {checkpoint.repo: checkpoint for checkpoint in found}


def find(key: str, variant: str, source: bool | str = True) -> Checkpoint:
    """The checkpoint with a repository's name, or the first of the variant.

    Raises:
        ValueError: if there is none, or if it is of another variant.
    """
    own = [c for c in checkpoints().values() if (c.key, c.variant) == (key, variant)]
    if source is True:
        if not own:
            raise ValueError(f"nobody has published weights of {key} {variant!r} that are known here")
        return own[0]
    if (checkpoint := checkpoints().get(str(source))) is None:
        near = difflib.get_close_matches(str(source), checkpoints(), n=1, cutoff=0.7)
        known = ", ".join(dict.fromkeys([*near, *(c.repo for c in own)])) or "none"
        raise ValueError(f"unknown weights {source!r}; for {key} {variant!r}: {known}; a file is given as a Path")
    if checkpoint not in own:
        raise ValueError(f"{checkpoint.repo} holds weights of {checkpoint.key} {checkpoint.variant!r}, not {variant!r}")
    return checkpoint


def fetch(checkpoint: Checkpoint) -> Path:
    """The file of a checkpoint, from the cache or from the hub, and certainly the one that was published.

    Raises:
        HubError: if it cannot be had. Nothing that is damaged stays in the cache.
    """
    hub = client()
    cached = {name: hub.try_to_load_from_cache(checkpoint.repo, name, revision=checkpoint.revision) for name in FILES}
    name = next((n for n, path in cached.items() if isinstance(path, str)), None) or published_file(checkpoint).name
    try:
        path = hub.hf_hub_download(checkpoint.repo, name, revision=checkpoint.revision, endpoint=endpoint())
    except Exception as error:  # whose errors they are depends on what carries the bytes, and that has changed
        raise HubError(f"{checkpoint.repo} could not be had from {endpoint()}: {first_line(error)}") from error
    _verify(Path(path), checkpoint.sha256 if name == FILES[0] else None, checkpoint.repo)
    return Path(path)


def published_file(checkpoint: Checkpoint) -> Published:
    """What the hub has of a checkpoint, asked once and without patience, so that whoever is offline knows at once.

    Raises:
        HubError: if the hub does not answer, or has no such file.
    """
    hub = client()
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    for name in FILES:
        url = hub.hf_hub_url(checkpoint.repo, name, revision=checkpoint.revision, endpoint=endpoint())
        try:
            found = hub.get_hf_file_metadata(url, endpoint=endpoint())
        except EntryNotFoundError:
            continue
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise HubError(f"{endpoint()} has no {checkpoint.repo} at {checkpoint.revision or 'main'}") from error
        except Exception as error:  # as above
            raise HubError(
                f"{checkpoint.repo} is not in the cache, and {endpoint()} does not answer ({first_line(error)}): "
                "connect to a network, set HF_ENDPOINT to a mirror, or give the path of a file that you have"
            ) from error
        return Published(name, str(found.commit_hash), str(found.etag))
    raise HubError(f"{checkpoint.repo} at {endpoint()} has none of {', '.join(FILES)}")


def client() -> Any:
    """``huggingface_hub``, imported when it is needed: it reads the environment then.

    Its bar of progress would like to have widgets, and warns where a notebook has none; a line of text will do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import huggingface_hub.file_download
        import huggingface_hub.utils
    return huggingface_hub


def endpoint() -> str:
    """The address of the hub, or of the mirror that the environment names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def first_line(error: Exception) -> str:
    """The gist of an error that a library raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _verify(path: Path, sha256: str | None, repo: str) -> None:
    """Compare a file with its checksum: the listed one, and the one that the hub gave, which names it in the cache."""
    blob = path.resolve()
    expected = {sha256} if sha256 else set[str]()
    if len(blob.name) == 64:
        expected.add(blob.name)
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wrong := expected - {found}:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise HubError(
            f"the file of {repo} has the checksum {found[:12]}..., not {min(wrong)[:12]}...: it was damaged on its "
            "way, or somebody changed it. It was removed from the cache; try again"
        )


def _input(colours: str, interpolation: str, crop: float | None) -> Preprocessing:
    return Preprocessing(**_COLOURS[colours], interpolation=interpolation, crop=crop)
