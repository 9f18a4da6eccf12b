"""One case under one setting: equal first, then timed."""

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from attention_notes.layers import mlp, pieces
from attention_notes.probe import count_macs
from benchmarks.cases import CASES, INFERENCE, TRAINING, Case
from benchmarks.timing import Clock, Work, interleaved, interval, peak_memory, profiled, ratio

OURS, AGAIN, WHOLE = "ours", "ours again", "ours, all rows at once"
KEEPING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736"  # nothing freed goes back to the system
TOLERANCE = 1e-5  # of float32, in which all models are compared, whatever they are timed in


class Setting(NamedTuple):
    """What is varied: the kind of work, inputs at once, threads (of a CPU), numbers, and whether it is compiled.

    ``kept`` (on a CPU): whether the C library keeps the memory of freed tensors for the next ones, as it does in a
    process that has freed much, or gives large ones back to the system, as it does in a fresh one.
    """

    work: str
    batch: int
    threads: int | None
    dtype: str
    compiled: bool = False
    kept: bool = False


def settings(case: Case, device: torch.device, threads: int) -> Iterator[Setting]:
    """All settings of a case: a CPU on all threads and on one, CUDA in two sorts of numbers, eager and compiled."""
    for work, batches in case.batches.items():
        if device.type == "cpu":
            yield from (Setting(work, batch, threads, "float32") for batch in batches)
            if threads > 1:
                yield Setting(work, batches[0], 1, "float32")
            if work == INFERENCE:
                yield Setting(work, case.quick, threads, "float32", kept=True)
            continue
        for batch in (*batches, 64):
            for dtype in ("float32", "bfloat16"):
                yield from (Setting(work, batch, None, dtype, compiled) for compiled in (False, True))


def compare(
    name: str,
    case: Case,
    setting: Setting,
    clock: Clock,
    *,
    limits: Mapping[str, float],
    seconds: float,
    rounds: int = 25,
) -> dict[str, Any]:
    """One row of the results.

    Raises:
        AssertionError: if a peer does not give our outputs, or, in training, our gradients.
    """
    dtype = getattr(torch, setting.dtype)
    ours = case.model()
    models = {OURS: ours, **{peer: build(ours) for peer, build in case.peers.items()}}
    models = {peer: model.eval().to(clock.device) for peer, model in models.items()}
    apart = {
        peer: _apart(models[OURS], model, case.inputs(2, clock.device, torch.float32), setting.work)
        for peer, model in models.items()
    }
    wrong = {peer: f"{value:.1e}" for peer, value in apart.items() if not value < TOLERANCE}
    assert not wrong, f"{name}: not the same model: {wrong}"
    models[AGAIN] = copy.deepcopy(models[OURS])
    x = case.inputs(setting.batch, clock.device, dtype)
    works = {peer: work_of(model.to(dtype), x, setting) for peer, model in models.items()}
    if clock.device.type == "cpu" and case.pieces:
        works[WHOLE] = at_once(works[OURS])
    if setting.threads:
        torch.set_num_threads(setting.threads)
    samples = interleaved(works, clock, rounds=rounds, seconds=seconds)
    held = {peer: peak_memory(work, clock.device) for peer, work in works.items() if peer != AGAIN}
    took = interval(samples[OURS]).median
    passes = 3 if setting.work == TRAINING else 1  # backward is two products for each of forward
    arithmetic = passes * 2 * setting.batch * _macs(case) / limits["operations"]
    moving = passes * _least_bytes(models[OURS], x) / limits["bytes"]
    return {
        "case": name,
        "key": case.key,
        **setting._asdict(),
        "seconds": took,
        "rounds": len(samples[OURS]),
        "ratios": {peer: ratio(samples[peer], samples[OURS]) for peer in case.peers},
        "control": ratio(samples[AGAIN], samples[OURS]),
        "whole": ratio(samples[WHOLE], samples[OURS]) if WHOLE in works else None,
        "memory": held,
        "share": max(arithmetic, moving) / took,
        "profile": profiled(works[OURS]) if clock.device.type == "cpu" else {},
        "apart": max(apart.values()),
    }


def timed(name: str, peer: str | None, setting: Setting, limits: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """One row of the results: a case with all its peers, or with one and nothing else."""
    case = CASES[name]
    if peer:
        case = replace(case, peers={peer: case.peers[peer]}, pieces=False)
    clock = Clock(torch.device("cpu" if setting.threads else "cuda"))
    return compare(name, case, setting, clock, limits=limits, seconds=seconds)


def in_its_own_process(
    work: Callable[..., dict[str, Any]], *arguments: Any, keeping: bool = False, **named: Any
) -> dict[str, Any]:
    """What a work gives in a process of its own, whose C library is ``keeping`` the memory of freed tensors or not.

    What ran before would leave free memory behind, and large tensors would be had from it instead of from the system,
    which has to clear every page of them: for models that hold much at once as much as half of their time.
    """
    told = {"GLIBC_TUNABLES": KEEPING} if keeping else {}
    with patch.dict(os.environ, told), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def at_once(run: Work) -> Work:
    """The same work of ours, every layer for all rows at once."""

    def whole(work: Callable[[Tensor], Tensor], x: Tensor, **_: int) -> Tensor:
        return work(x)

    def runs() -> None:
        with patch.object(pieces, "in_pieces", whole), patch.object(mlp, "in_pieces", whole):
            run()

    return runs


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


def _macs(case: Case) -> int:
    with torch.device("meta"):
        return count_macs((case.counted or case.build)(), torch.empty(1, *case.shape))


def _least_bytes(model: nn.Module, x: Tensor) -> int:
    """Parameters and inputs read once, outputs written once."""
    return sum(p.nbytes for p in model.parameters()) + 2 * x.nbytes
