"""Start a seeded run on whatever device there is, and train a small model."""

import random
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn


def start(seed: int = 0) -> torch.device:
    """Seed every generator, keep float32 honest (no TF32), and name the device to use: CUDA where there is one.

    On the CPU one thread computes: models as small as a chapter's gain nothing from a second, sums come out the same
    whatever the number of cores, and threads that wait for a core that others use cost a factor of five.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still draw from the global generator
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, ...]],
    *,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> list[float]:
    """Take one step of ``optimizer`` for each batch, minimising ``loss(model, *batch)``.

    Returns:
        The loss of every step. The model is left in evaluation mode.
    """
    model.train()
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
    return torch.stack(losses).tolist()
