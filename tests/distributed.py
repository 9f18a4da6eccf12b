"""One of two processes that train every model of the contract once with DDP and once with FSDP2, on gloo.

``test_contract.py`` starts both. Each process sees half of a batch. It prints one line of JSON: for each model and
wrapper which modules were called otherwise than in the plain model, and how far the gradients are from those of the
whole batch.
"""

import json
import sys
from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from attention_notes.nn.checkpointing import Blocks
from attention_notes.nn.drop_path import DropPath
from tests.contract import Case, run
from tests.discovery import of_papers


def still(case: Case) -> nn.Module:
    """A small model, the same in both processes, in training mode, in which nothing is dropped."""
    torch.manual_seed(0)
    model = case.build().double().train()
    for module in model.modules():
        if isinstance(module, _DropoutNd | DropPath):
            module.p = 0.0
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or type(module).__name__ in ("BatchNorm", "PowerNorm"):
            module.eval()  # statistics of half a batch are others
    return model


def counted(model: nn.Module) -> Counter[str]:
    """How often each module of ``model`` will be called, by name."""
    calls: Counter[str] = Counter()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        grad: Any = parameter.grad
        if grad is not None:
            found[name] = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
    return found


def blocks(model: nn.Module) -> list[nn.Module]:
    """The parts of sequences that have parts and parameters of their own, none inside of another."""
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for part in model.modules():
        for block in part if type(part) in (nn.Sequential, Blocks) else ():
            if (
                block not in inside
                and [*block.children()]
                and [*block.parameters()]
                and type(block) not in (nn.Sequential, Blocks)
            ):
                found.append(block)
                inside |= {*block.modules()}
    return found


def compare(case: Case, wrapper: str, rank: int, mesh: DeviceMesh) -> dict[str, Any]:
    plain, wrapped = still(case), still(case)
    torch.manual_seed(1)
    whole = tuple(x.double() if x.is_floating_point() else x for x in case.inputs())
    whole = tuple(torch.cat([x, x.flip(-1)])[:4] for x in whole)
    expected, found = counted(plain), counted(wrapped)
    run(plain, whole).square().mean().backward()
    if wrapper == "DDP":
        model: nn.Module = DistributedDataParallel(wrapped, find_unused_parameters=True)
    else:
        for block in blocks(wrapped):
            fully_shard(block, mesh=mesh)
        model = fully_shard(wrapped, mesh=mesh)
    run(model, tuple(x[2 * rank : 2 * rank + 2] for x in whole)).square().mean().backward()
    mine, theirs = gradients(plain), gradients(wrapped)
    apart = max(((mine[n] - g).abs().max() / mine[n].abs().max().clamp(min=1e-9)).item() for n, g in theirs.items())
    return {
        "otherwise": sorted(n for n in expected.keys() | found.keys() if expected[n] != found[n]),
        "apart": apart,
        "without": sorted(mine.keys() - theirs.keys()),
    }


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("data",))
    results = {}
    for _, name, case in of_papers("cases", "MODELS"):
        for wrapper in ("DDP", "FSDP2"):
            results[f"{name}, {wrapper}"] = compare(case, wrapper, rank, mesh)
    if rank == 0:
        print(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
