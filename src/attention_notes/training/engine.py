"""Processes, devices and precision, by Lightning Fabric; and state that is the same however a model is spread."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from attention_notes.nn.checkpointing import Blocks

STRATEGIES = ("ddp", "fsdp")
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def engine(*, strategy: str = "ddp", precision: str = "float32", device: str | None = None) -> Any:
    """A launched ``Fabric``: this process, or one of those that ``torchrun`` has started, on its device.

    Args:
        strategy: ``ddp``, where each process has all weights, or ``fsdp``, where they are spread (FSDP2).
        precision: ``float32``, or ``bfloat16`` for what autocast computes in it.
        device: ``cpu``, ``cuda`` or ``mps``; the best that there is when not given.

    Raises:
        ValueError: if Fabric is not installed, or if there are not as many GPUs as processes.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy
    except ImportError:
        raise ValueError('training needs Lightning Fabric: pip install "attention-notes[train]"') from None
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    chosen = device or _best_device()
    if chosen == "cuda" and torch.cuda.device_count() < local:
        raise ValueError(
            f"{local} processes and {torch.cuda.device_count()} GPUs here: give torchrun --nproc-per-node as many as "
            "there are, or --device cpu"
        )
    if chosen == "mps" and precision != "float32":
        raise ValueError("bfloat16 is for CPUs and CUDA: leave --precision out on this device")
    how: Any = "auto"
    digits: Any = PRECISIONS[precision]
    if world > 1:
        how = (
            DDPStrategy()
            if strategy == "ddp"
            else ModelParallelStrategy(_sharded, data_parallel_size=world, tensor_parallel_size=1)
        )
    fabric = Fabric(accelerator=chosen, devices=local, num_nodes=world // local, strategy=how, precision=digits)
    fabric.launch()
    return fabric


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _sharded(model: Any, mesh: Any) -> Any:
    """Each block's weights spread over the processes, and the rest as one more part (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    data = mesh["data_parallel"]
    for part in [*model.modules()]:
        for block in part if isinstance(part, Blocks) else ():
            fully_shard(block, mesh=data)
    return fully_shard(model, mesh=data)


def spread_again(model: nn.Module) -> None:
    """After a forward pass without a backward one FSDP2 keeps the last weights whole; spread them."""
    for part in model.modules():
        again: Any = getattr(part, "reshard", None)
        if again is not None:
            again()


def _states() -> tuple[Any, Any]:
    """PyTorch's functions for states of spread models, which take half a second to be imported, and their options."""
    from torch.distributed.checkpoint import state_dict

    return state_dict, state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights on the CPU, by their plain names; where they are spread, in the first process alone."""
    functions, options = _states()
    state = functions.get_model_state_dict(model, options=options)
    return {name: tensor.clone() for name, tensor in state.items()}  # on a CPU they are the weights themselves


def set_model_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put whole weights into a model, spread or not."""
    functions, options = _states()
    functions.set_model_state_dict(model, dict(state), options=options)


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What an optimizer remembers: tensors on the CPU, by the names of the weights and of what they are; plain data."""
    functions, options = _states()
    state = functions.get_optimizer_state_dict(model, optimizer, options=options)
    tensors, plain = dict[str, Tensor](), dict[str, Any]()
    for weight, values in state.get("state", {}).items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{weight}|{name}"] = value
    groups = [dict(group) for group in state.get("param_groups", [])]
    for i, group in enumerate(groups):
        for name in [name for name, value in group.items() if isinstance(value, Tensor)]:
            tensors[f"{i}||{name}"] = group.pop(name)
    return tensors, {"state": plain, "param_groups": groups}


def set_optimizer_state(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Give an optimizer back what it remembered."""
    functions, options = _states()
    state: dict[str, dict[str, Any]] = {}
    groups = [dict(group) for group in plain["param_groups"]]
    for key, value in {**plain["state"], **tensors}.items():
        weight, _, name = key.rpartition("|")
        if weight.endswith("|"):
            groups[int(weight[:-1])][name] = value
        else:
            state.setdefault(weight, {})[name] = value
    functions.set_optimizer_state_dict(model, optimizer, {"state": state, "param_groups": groups}, options=options)
