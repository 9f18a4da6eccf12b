"""One case under one setting, pair by pair: equal first, then timed."""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from attention_notes.inspect import count_macs
from attention_notes.nn.chunking import chunked
from benchmarks.cases import CASES, INFERENCE, TRAINING, Case
from benchmarks.timing import Clock, Work, across, interleaved, interval, peak_memory, profiled, quotients, ratio

OURS, AGAIN = "ours", "ours again"
KEEPING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736"  # nothing freed goes back to the system
PROCESSES = 3  # for each pair: a process keeps what sets it apart, as what its heap gives back, for all its rounds
TOLERANCE = 1e-5  # of float32, in which all models are compared, whatever they are timed in


class Setting(NamedTuple):
    """What is varied: the kind of work, inputs at once, threads (of a CPU), numbers, and whether it is compiled.

    ``kept`` (on a CPU): whether the C library keeps the memory of freed tensors for the next ones, as it does in a
    process that has freed much, or gives large ones back to the system, as it does in a fresh one. ``chunked`` (on a
    CPU): whether ours works in chunks.
    """

    work: str
    batch: int
    threads: int | None
    dtype: str
    compiled: bool = False
    kept: bool = False
    chunked: bool = False


def settings(case: Case, device: torch.device, threads: int) -> Iterator[Setting]:
    """All settings of a case: CUDA in two sorts of numbers, eager and compiled, each with 64 inputs, too.

    On a CPU inference is also timed on one thread, with memory kept, in chunks, and compiled, of some cases training
    compiled, too. The first of each kind of work is that of most inputs.
    """
    for work, batches in case.batches.items():
        first = max(batches)
        ordered = (first, *(batch for batch in batches if batch != first))
        if device.type == "cpu":
            yield from (Setting(work, batch, threads, "float32") for batch in ordered)
            if work == INFERENCE and case.aside:
                if threads > 1:
                    yield Setting(work, batches[0], 1, "float32")
                for in_chunks in (False, True) if case.chunks else (False,):
                    yield Setting(work, first, threads, "float32", kept=True, chunked=in_chunks)
            if work == INFERENCE and case.chunks:
                yield Setting(work, first, threads, "float32", chunked=True)
            compiled = (case.compiled or {INFERENCE: (first,)}).get(work, ())
            yield from (Setting(work, batch, threads, "float32", compiled=True) for batch in sorted(compiled)[::-1])
            continue
        for batch in (*ordered, 64):
            for dtype in ("float32", "bfloat16"):
                yield from (Setting(work, batch, None, dtype, compiled) for compiled in (False, True))


def compare(
    name: str, setting: Setting, *, peers: Sequence[str], limits: Mapping[str, float], seconds: float
) -> dict[str, Any]:
    """One row of the results: ours beside each of some peers, and beside itself, each pair in several processes."""
    case = CASES[name]
    found = {other: in_processes(name, other, setting, seconds) for other in (*peers, AGAIN)}
    itself, medians = found[AGAIN][0], [part["seconds"] for part in found[AGAIN]]
    return {
        "case": name,
        "key": case.key,
        **setting._asdict(),
        "seconds": median(medians),
        "processes": PROCESSES,
        "pairs": min(sum(part["pairs"] for part in parts) for parts in found.values()),
        "ratios": {peer: across([part["quotients"] for part in found[peer]]) for peer in peers},
        "control": across([part["quotients"] for part in found[AGAIN]]),
        "memory": {OURS: itself["memory"], **{peer: found[peer][0]["memory"] for peer in peers}},
        "share": least_seconds(case, setting, limits) / median(medians),
        "profile": itself["profile"],
        "apart": max(part["apart"] for parts in found.values() for part in parts),
    }


def in_processes(name: str, other: str, setting: Setting, seconds: float) -> list[dict[str, Any]]:
    """A pair as several processes find it, two rounds or more in each; the first looks at memory and operators, too."""
    return [
        in_its_own_process(
            pair, name, other, setting, keeping=setting.kept, seconds=seconds / PROCESSES, least=2, inside=not i
        )
        for i in range(PROCESSES)
    ]


def pair(
    name: str, other: str, setting: Setting, seconds: float, *, rounds: int = 50, least: int = 4, inside: bool = True
) -> dict[str, Any]:
    """Ours in turns with one other: a peer, or a copy of itself.

    Args:
        name: of the case.
        other: the peer.
        setting: what is timed.
        seconds: for all rounds.
        rounds: how many there are at most.
        least: how many there are however long they take.
        inside: whether memory and operators are looked at, too.

    Raises:
        AssertionError: if the other does not give our outputs, or, in training, our gradients.
    """
    case, clock = CASES[name], Clock(torch.device("cpu" if setting.threads else "cuda"))
    ours = case.model().to(clock.device)
    theirs = (copy.deepcopy if other == AGAIN else case.peers[other])(ours).eval().to(clock.device)
    apart = _apart(ours, theirs, case.inputs(2, clock.device, torch.float32), setting.work)
    assert apart < TOLERANCE, f"{name}: {other} is not the same model: {apart:.1e}"
    if setting.threads:
        torch.set_num_threads(setting.threads)
    dtype = getattr(torch, setting.dtype)
    x = case.inputs(setting.batch, clock.device, dtype)
    works = {OURS: work_of(ours.to(dtype), x, setting), other: work_of(theirs.to(dtype), x, setting)}
    with ExitStack() as chunks:
        for model in ((ours, theirs) if other == AGAIN else (ours,)) if setting.chunked else ():
            chunks.enter_context(chunked(model))
        samples = interleaved(works, clock, rounds=rounds, seconds=seconds, least=least)
        return {
            "seconds": interval(samples[OURS]).median,
            "pairs": len(samples[OURS]),
            "quotients": quotients(samples[other], samples[OURS]),
            "ratio": ratio(samples[other], samples[OURS]),
            "memory": peak_memory(works[other], clock.device) if inside else None,
            "profile": profiled(works[OURS]) if inside and other == AGAIN and clock.device.type == "cpu" else {},
            "apart": apart,
        }


def least_seconds(case: Case, setting: Setting, limits: Mapping[str, float]) -> float:
    """What the arithmetic would take at the rate of a matrix product; or, if longer, the moving of what is moved.

    Of memory that is parameters and inputs, read once, and outputs of the inputs' size, written once.
    """
    passes = 3 if setting.work == TRAINING else 1  # backward is two products for each of forward
    with torch.device("meta"):
        model, x = (case.counted or case.build)(), torch.empty(1, *case.shape)
        arithmetic = 2 * setting.batch * count_macs(model, x)
    moved = sum(p.nbytes for p in model.parameters()) + 2 * setting.batch * x.nbytes
    return passes * max(arithmetic / limits["operations"], moved / limits["bytes"])


def in_its_own_process(
    work: Callable[..., dict[str, Any]], *arguments: Any, keeping: bool = False, **named: Any
) -> dict[str, Any]:
    """What a work gives in a process of its own, whose C library is ``keeping`` the memory of freed tensors or not.

    What ran before, and every further model beside it, would leave free memory behind, and large tensors would be had
    from it instead of from the system, which has to clear every page of them: for models that hold much at once as much
    as half of their time.
    """
    told = {"GLIBC_TUNABLES": KEEPING} if keeping else {}
    with patch.dict(os.environ, told), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def _apart(ours: nn.Module, theirs: nn.Module, x: Tensor, work: str) -> float:
    """The largest difference of two outputs, and in training of two gradients of the inputs, relative to theirs."""
    found = []
    for model in (ours, theirs):
        given = x.clone().requires_grad_(work == TRAINING)
        with torch.set_grad_enabled(work == TRAINING):
            out = model(given)
        found.append((out, *(torch.autograd.grad(out.square().mean(), given) if work == TRAINING else ())))
    (a, *slope_a), (b, *slope_b) = found
    differences = [((a - b).abs() / b.abs().clamp(min=1)).max().item()]
    # gradients have passed through twice as many sums, and are small beside their largest: ten times the tolerance
    differences += [((a - b).abs().max() / b.abs().max()).item() / 10 for a, b in zip(slope_a, slope_b, strict=True)]
    return max(differences)


def work_of(model: nn.Module, x: Tensor, setting: Setting) -> Work:
    """One call of a model, or one step of its training: forward, backward, and a step of plain gradient descent."""
    if setting.compiled:
        model.compile()
    if setting.work == INFERENCE:

        def infer() -> None:
            with torch.inference_mode():
                model(x)

        return infer
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1e-9, foreach=True)

    def train() -> None:
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()

    return train
