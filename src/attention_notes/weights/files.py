"""Files of weights, read as data: safetensors, and what ``torch`` and ``numpy`` read without running any code."""

import pickle
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_NESTED = ("model", "state_dict")  # under which training scripts keep the weights
_DAMAGED = (SafetensorError, zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, KeyError)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.npz`` or PyTorch file, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds no state dict, or holds more than tensors, which could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
    try:
        found = _read(path)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} holds more than tensors, which could run code: it is refused") from error
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged, or no file of weights") from error
    while isinstance(found, dict) and (inner := [found[name] for name in _NESTED if isinstance(found.get(name), dict)]):
        found = inner[0]
    if not isinstance(found, dict) or not found or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValueError(f"{path} holds no state dict: names and their tensors")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return torch.load(path, map_location="cpu", weights_only=True)
