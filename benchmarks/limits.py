"""What the machine can do: the fastest matrix product and the fastest copy, measured beside everything else."""

import torch

from benchmarks.timing import Clock, interval


def product_rate(clock: Clock, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the best of some matrix products."""
    sides = (2048, 4096, 8192) if clock.events else (1024, 2048, 3072)
    return max(_rate(clock, dtype, side) for side in sides)


def _rate(clock: Clock, dtype: torch.dtype, side: int) -> float:
    a, b = (torch.randn(side, side, device=clock.device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def product() -> None:
        torch.mm(a, b, out=out)

    repeats = clock.repeats(product)
    return 2 * side**3 / interval([clock.once(product, repeats) for _ in range(9)]).median


def copy_rate(clock: Clock) -> float:
    """Bytes a second that a copy of something larger than any cache reads and writes."""
    source = torch.randn(2**28 if clock.events else 2**26, device=clock.device)
    copy = torch.empty_like(source)

    def moved() -> None:
        copy.copy_(source)

    moved()
    return 2 * source.nbytes / interval([clock.once(moved) for _ in range(9)]).median
