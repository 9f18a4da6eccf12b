"""Where a training stands, written whole or not at all, as data that no code is run to read.

A checkpoint is a folder: ``model.safetensors``, ``optimizer.safetensors``, ``average.safetensors`` where there is an
average, and ``state.json``, with the step, the recipe and the checksum of each file. It is written under another name
and renamed when it lies on the disk. Random numbers are not stored: they follow from the recipe's seed and the step.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

NAME = re.compile(r"step-(\d{9})")


def path_of(folder: Path, step: int) -> Path:
    """The checkpoint after so many steps."""
    return folder / f"step-{step:09}"


def steps_in(folder: Path) -> list[int]:
    """After how many steps there are checkpoints, the newest last."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))


def write(folder: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, and return where it is.

    Args:
        folder: of all checkpoints.
        step: how many steps have been taken.
        parts: tensors by the name of their file.
        state: what else there is, as JSON.

    Raises:
        OSError: if it cannot be written; nothing of it is left then.
    """
    target = path_of(folder, step)
    part = folder / f".{target.name}.part"
    with suppress(FileNotFoundError):
        shutil.rmtree(part)
    try:
        part.mkdir(parents=True)
        sums = {}
        for name, tensors in parts.items():
            content = save({key: tensor.contiguous() for key, tensor in tensors.items()})
            sums[f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
            _write(part / f"{name}.safetensors", content)
        _write(part / "state.json", json.dumps({**state, "step": step, "files": sums}, indent=1).encode())
        _remove(target)
        part.rename(target)
        _settle(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OSError(
            error.errno, f"the checkpoint of step {step} cannot be written: {error.strerror or error}"
        ) from None
    return target


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Have the names in a folder on the disk, too, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The state and the tensors of a checkpoint, once all checksums have been found right.

    Raises:
        ValueError: if something is missing or is not what was written.
    """
    try:
        state = json.loads((path / "state.json").read_text("utf-8"))
        parts = {}
        for name, expected in state["files"].items():
            content = (path / Path(name).name).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f"{name} is not what was written")
            parts[name.removesuffix(".safetensors")] = load(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return state, parts


def newest(folder: Path) -> tuple[int, dict[str, Any], dict[str, dict[str, Tensor]], list[str]] | None:
    """The last checkpoint that can be read, with its step, and what is wrong with those after it; or None.

    Raises:
        ValueError: if there are some, and none can be read.
    """
    wrong: list[str] = []
    for step in reversed(steps_in(folder)):
        try:
            return (step, *read(path_of(folder, step)), wrong)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError(f"no checkpoint can be read. {'; '.join(wrong)}")
    return None


def prune(folder: Path, *, keep: int) -> None:
    """Remove all but the newest checkpoints, and what an end in the middle of writing has left behind."""
    for step in steps_in(folder)[:-keep]:
        _remove(path_of(folder, step))
    for part in folder.glob(".step-*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _remove(path: Path) -> None:
    """Take a checkpoint away: first its name, so that there is never half of one."""
    gone = path.with_name(f".{path.name}-gone.part")
    with suppress(FileNotFoundError):
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
