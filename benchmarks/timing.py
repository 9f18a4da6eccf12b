"""How long something takes beside something else: interleaved samples, ratios, their intervals, and memory."""

import gc
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]
ENDS = torch.tensor([0.025, 0.975], dtype=torch.float64)


class Interval(NamedTuple):
    """A median with its bootstrap interval of 95 %."""

    median: float
    low: float
    high: float


class Clock:
    """Seconds of a piece of work on a device.

    On CUDA the time between two events, and before each sample a write over more memory than the second-level cache
    holds, so that no model finds its inputs there.

    Args:
        device: where the work is done.
        least: seconds that a sample lasts at least; work that is quicker is repeated.
    """

    def __init__(self, device: torch.device, *, least: float = 0.02) -> None:
        self.device, self.least = device, least
        self.events = device.type == "cuda"
        self.flushed = torch.empty(2**28 if self.events else 0, dtype=torch.int8, device=device)

    def once(self, work: Work, repeats: int = 1) -> float:
        """Seconds of one call, over ``repeats`` of them."""
        if not self.events:
            started = time.perf_counter()
            for _ in range(repeats):
                work()
            return (time.perf_counter() - started) / repeats
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flushed.zero_()
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / repeats

    def repeats(self, work: Work) -> int:
        """How many calls make a sample; warms up, for a tenth of a second and three calls at most."""
        for _ in range(3):
            if self.once(work) > 0.1:
                break
        return max(1, math.ceil(self.least / self.once(work)))


def interleaved(
    works: Mapping[str, Work], clock: Clock, *, rounds: int, seconds: float = math.inf, least: int = 4
) -> dict[str, list[float]]:
    """Seconds of every work, twice in every round.

    A round goes through the works and back again (A B B A), so that what drifts meanwhile, such as the machine's clock,
    falls on all alike; and each round begins with another work, so that none is always the first. It ends early once
    ``seconds`` are over, but not before the round ``least``.
    """
    repeats = {name: clock.repeats(work) for name, work in works.items()}
    samples: dict[str, list[float]] = {name: [] for name in works}
    names, until = list(works), time.perf_counter() + seconds
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(rounds):
            if done >= least and time.perf_counter() >= until:
                break
            order = names[done % len(names) :] + names[: done % len(names)]
            there = {name: clock.once(works[name], repeats[name]) for name in order}
            back = {name: clock.once(works[name], repeats[name]) for name in reversed(order)}
            for name in names:
                samples[name] += [there[name], back[name]]
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return samples


def interval(values: Sequence[float], *, resamples: int = 2000) -> Interval:
    """The median and what 95 % of the medians of resamples lie between."""
    low, high = _medians(values, resamples, torch.Generator().manual_seed(0)).quantile(ENDS).tolist()
    return Interval(median(values), low, high)


def quotients(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """How many times as long one took as the other, pair by pair."""
    return [a / b for a, b in zip(of, to, strict=True)]


def ratio(of: Sequence[float], to: Sequence[float]) -> Interval:
    """How many times as long one took as the other, with pairs from one process."""
    return interval(quotients(of, to))


def across(processes: Sequence[Sequence[float]], *, resamples: int = 2000) -> Interval:
    """The median of the medians of several processes, and what 95 % of those of resamples lie between.

    Processes are drawn first, then values in each, so that what sets a process apart for as long as it lives, as the
    state of its heap, is in the interval.
    """
    drawn, count = torch.Generator().manual_seed(0), len(processes)
    slots = torch.stack([_medians(values, resamples * count, drawn) for values in processes]).view(count, resamples, -1)
    chosen = torch.randint(count, (1, resamples, count), generator=drawn)
    low, high = slots.gather(0, chosen)[0].quantile(0.5, dim=1).quantile(ENDS).tolist()
    return Interval(median([median(values) for values in processes]), low, high)


def peak_memory(work: Work, device: torch.device) -> int:
    """Bytes that a work holds at most, beyond what was there before it, as the allocator counts them."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = seen.profiler.kineto_results.events()
    moves = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = torch.tensor([bytes_ for _, bytes_ in moves]).cumsum(0)
    return max(int(held.max()), 0) if len(held) else 0


def _medians(values: Sequence[float], resamples: int, drawn: torch.Generator) -> Tensor:
    """The medians of resamples."""
    data = torch.tensor(values, dtype=torch.float64)
    return data[torch.randint(len(data), (resamples, len(data)), generator=drawn)].quantile(0.5, dim=1)


KINDS = {  # the first that fits, of PyTorch's operators
    "matrix products": r"addmm|mm|bmm|baddbmm|addbmm",
    "fused attention": r".*scaled_dot_product.*",
    "convolutions": r".*convolution.*",
    "activations": r".*(gelu|relu|sigmoid|softmax|tanh).*",
    "norms": r".*(norm).*",
    "copies": r"copy_|cat|roll|index_select|clone|fill_|zero_|.*pad.*",
}


def profiled(work: Work) -> dict[str, float]:
    """What share of its time a work spends in which kind of operators; what is in none of the kinds is ``others``."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    took = dict.fromkeys([*KINDS, "others"], 0.0)
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::").removeprefix("_")
        took[next((kind for kind, form in KINDS.items() if re.fullmatch(form, name)), "others")] += (
            event.self_cpu_time_total
        )
    return {kind: value / sum(took.values()) for kind, value in took.items()}
