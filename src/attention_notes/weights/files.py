"""Files of weights, read as data: safetensors, and what ``torch`` and ``numpy`` read without running any code."""

import argparse
import pickle
import re
import threading
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
from torch.serialization import get_safe_globals, safe_globals

# Under which training scripts keep the weights; averages are other weights, and count where there are no plain ones.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "state_dict_ema", "model_ema", "ema")
_WRAPPERS = ("module.", "model.", "net.")  # of DataParallel, DDP and averages; of Lightning, and by hand
_BESIDE = ("model.", "net.")  # what a training keeps beside its model, such as the weights of its loss, is dropped
_COUNTERS = ("n_averaged",)  # what ``AveragedModel`` adds
_HARMLESS = (argparse.Namespace, PosixPath)  # in which trainings keep their options
_DAMAGED = (SafetensorError, zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, KeyError)
_allowing = threading.Lock()


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
        if (what := re.search(r"GLOBAL ([\w.]+)", str(error))) is None:
            raise ValueError(f"{path} is damaged, or no file of weights") from error
        raise ValueError(
            f"{path} holds more than tensors ({what[1]}), which could run code: it is refused. If you trust where it "
            "comes from, load it with torch.load(..., weights_only=False), and save its state dict alone, with "
            "torch.save or as .safetensors"
        ) from error
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged, or no file of weights") from error
    return unwrapped(found, str(path))


def unwrapped(found: Any, name: str = "the state dict") -> dict[str, Tensor]:
    """A state dict without what trainings put around it.

    That is a dictionary of more than weights, such as ``{"epoch": 3, "model_state_dict": ...}``, and prefixes of names:
    ``module.``, ``model.``, ``net.``, also one in another, and the ``_orig_mod.`` of ``torch.compile`` wherever it is.
    Of plain and averaged weights (``state_dict_ema``) the plain ones are taken; for the others, give them themselves.

    Args:
        found: a state dict, or a dictionary that holds one.
        name: what errors call it.

    Raises:
        ValueError: if it holds no state dict.
    """
    if (state := _state_dict(found)) is None:
        if isinstance(found, Mapping):
            held = f"{', '.join(map(str, [*found][:6]))}" if found else "nothing"
        else:
            held = f"a {type(found).__name__}"
        raise ValueError(
            f"{name} holds {held}: no state dict, which has a tensor for each name, nor one under {', '.join(_NESTED)}"
        )
    state = {re.sub(r"(^|\.)_orig_mod\.", r"\1", str(key)): tensor for key, tensor in state.items()}
    while True:
        state = {key: tensor for key, tensor in state.items() if key not in _COUNTERS}
        for prefix in _WRAPPERS:
            inner = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
            if inner and (len(inner) == len(state) or prefix in _BESIDE):
                state = inner
                break
        else:
            return state


def _state_dict(found: Any) -> Mapping[Any, Tensor] | None:
    if not isinstance(found, Mapping) or not found:
        return None
    if all(isinstance(tensor, Tensor) for tensor in found.values()):
        return found
    return next((inner for key in _NESTED if (inner := _state_dict(found.get(key))) is not None), None)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # What is allowed is allowed to the whole process: for as short as can be, by one thread at a time, and without
        # taking back what the process had allowed itself.
        with _allowing, safe_globals([kind for kind in _HARMLESS if kind not in get_safe_globals()]):
            return torch.load(path, map_location="cpu", weights_only=True)
