"""Start a seeded run on whatever device there is, and train a small model."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def start(seed: int = 0) -> torch.device:
    """Seed every generator, keep float32 honest (no TF32), and name the device to use: CUDA where there is one.

    On the CPU one thread computes: models as small as a chapter's gain nothing from a second, sums come out the same
    whatever the number of cores, and threads that wait for a core that others use cost a factor of five.

    It is the first line of a notebook, and holds for the rest of the process. What runs inside of another program uses
    ``started``.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still draw from the global generator
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def started(seed: int = 0) -> Iterator[torch.device]:
    """As ``start`` while the context lasts; afterwards all generators, threads and settings are as before."""
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    backends: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    tf32 = [backend.allow_tf32 for backend in backends]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield start(seed)
    finally:
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)  # noqa: NPY002
        torch.set_num_threads(threads)
        for backend, allowed in zip(backends, tf32, strict=True):
            backend.allow_tf32 = allowed


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, ...]],
    *,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> list[float]:
    """Take one step of ``optimizer`` for each batch, minimising ``loss(model, *batch)``.

    The model trains, but for what is frozen: a norm with running statistics whose parameters all need no gradient, and,
    in a model that is in training mode, whatever part of it is in evaluation mode. Both stay in evaluation mode, so
    that running statistics do not move. A model that is as a whole in evaluation mode, as ``fit`` leaves it, trains.

    Returns:
        The loss of every step. The model is left in evaluation mode.
    """
    frozen = [part for part in model.modules() if _frozen(part) or (model.training and not part.training)]
    model.train()
    for part in frozen:
        part.training = False
    losses = []
    for batch in batches:
        value = loss(model, *batch)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(value.detach())
    model.eval()
    return torch.stack(losses).tolist() if losses else []


def _frozen(part: nn.Module) -> bool:
    """Whether it keeps something in buffers, and has parameters, none of which learns."""
    own = [*part.parameters(recurse=False)]
    return bool(own) and not any(p.requires_grad for p in own) and any(True for _ in part.buffers(recurse=False))
