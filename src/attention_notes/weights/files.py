"""Files of weights, read as data: safetensors, and what ``torch`` and ``numpy`` read without running any code."""

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

# Where training scripts keep the weights, those of an average last: they are another model.
_NESTED = ("model", "state_dict", "model_state_dict", "module")
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")  # of DDP and averages, torch.compile, Lightning, and by hand
_COUNTERS = ("n_averaged",)  # what wrappers add
_HARMLESS = (argparse.Namespace, PosixPath)  # what options of a training are kept in
_DAMAGED = (SafetensorError, zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, KeyError)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.npz`` or PyTorch file, on the CPU, as ``unwrapped`` gives them.

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
        raise ValueError(
            f"{path} holds more than tensors, which could run code: it is refused. Where you made it, save "
            "model.state_dict() alone, or as .safetensors"
        ) from error
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged, or no file of weights") from error
    return unwrapped(found, str(path))


def unwrapped(found: Any, name: str = "the state dict") -> dict[str, Tensor]:
    """A state dict without what training scripts and wrappers put around it: a dictionary of more, and prefixes.

    Args:
        found: a state dict, or a checkpoint that has one under a usual name, as ``"model_state_dict"``.
        name: what errors call it.

    Raises:
        ValueError: if it holds no state dict.
    """
    while isinstance(found, Mapping) and (inner := [v for k in _NESTED if isinstance(v := found.get(k), Mapping)]):
        found = inner[0]
    if not isinstance(found, Mapping) or not found or not all(isinstance(t, Tensor) for t in found.values()):
        keys = f": it has {', '.join(map(str, list(found)[:6]))}" if isinstance(found, Mapping) and found else ""
        raise ValueError(
            f"{name} holds no state dict, names and their tensors, itself or under {', '.join(_NESTED)}{keys}"
        )
    state = {str(key): tensor for key, tensor in found.items() if key not in _COUNTERS}
    while around := [one for one in _WRAPPERS if all(key.startswith(one) for key in state)]:
        state = {key.removeprefix(around[0]): tensor for key, tensor in state.items()}
    return state


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    with safe_globals([*_HARMLESS]):
        return torch.load(path, map_location="cpu", weights_only=True)
