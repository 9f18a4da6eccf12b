"""Run the comparison: ``python -m benchmarks``, or ``--quick`` to see whether anything became slower."""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attention_notes.chapters import speed
from benchmarks.cases import CASES, INFERENCE
from benchmarks.compare import Setting, compare, in_its_own_process, pair, settings
from benchmarks.decoding import MODELS, READ, WRITTEN, decode
from benchmarks.growth import FORMS, grow
from benchmarks.limits import copy_rate, product_rate
from benchmarks.provenance import kind, machine, provenance, write_record
from benchmarks.timing import Clock
from benchmarks.training import loop, pictures

RESULTS = speed.RECORDS


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; or, with ``--quick``, measure little and return 1 if a ratio fell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="compare a few ratios with the recorded ones")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--only", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE", help="; ".join(CASES)
    )
    parser.add_argument("--decoding", action="store_true", help="time how quickly texts are written, and nothing else")
    parser.add_argument("--training", action="store_true", help="time the training loop, and nothing else")
    parser.add_argument("--seconds", type=float, default=6, help="for each pair, in all its processes")
    parser.add_argument("--results", type=Path, help="file of the results; that of the page when not given")
    options = parser.parse_args(arguments)
    torch.set_float32_matmul_precision("highest")
    clock = Clock(torch.device(options.device))
    prefix = "decoding_" * options.decoding or "training_" * options.training
    path = options.results or RESULTS / f"{prefix}{clock.device.type}.json"
    if options.quick:
        if not path.exists():
            parser.error(f"nothing is recorded in {path}: run without --quick first")
        return quick(clock, json.loads(path.read_text()), options.only, seconds=options.seconds)
    if options.decoding or options.training:
        write_record(path, (write if options.decoding else learn)(clock, seconds=options.seconds))
        return 0
    before = json.loads(path.read_text()) if options.only != [*CASES] and path.exists() else None
    if before and (unlike := unlike_here(before, clock)):
        parser.error(f"{path} is of {unlike}: measure all cases, or name another file as --results")
    found = measure(clock, options.only, seconds=options.seconds)
    write_record(path, joined(before, found) if before else found)
    return 0


def measure(clock: Clock, names: list[str], *, seconds: float) -> dict[str, Any]:
    """All models that take images, and how time and memory grow; without the latter for some of the models."""
    started, threads = time.perf_counter(), torch.get_num_threads()
    limits = _limits(clock, threads)
    rows = [row for name in names for row in _rows(name, clock.device, threads, limits, seconds=seconds)]
    growth = [in_its_own_process(grow, form, clock.device) for form in FORMS] if names == [*CASES] else []
    return {
        **provenance(clock.device, started),
        "limits": limits,
        "goals": {name: dict(CASES[name].goals) for name in names},
        "rows": rows,
        "growth": growth,
    }


def unlike_here(recorded: dict[str, Any], clock: Clock) -> str:
    """The machine or the versions of a record where they are not those of now; empty where they are."""
    here, there = kind(machine(clock.device)), kind(recorded["machine"])
    versions = {name: was for name, was in recorded["versions"].items() if version(name) != was}
    return there if here != there else ", ".join(f"{name} {was}" for name, was in versions.items())


def joined(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A record with some cases measured once more; ``since`` says which, when, of what commit, and the limits then."""
    again, order = found["goals"].keys(), [*CASES]
    rows = [row for row in before["rows"] if row["case"] not in again] + found["rows"]
    since = [{**run, "cases": [case for case in run["cases"] if case not in again]} for run in before.get("since", [])]
    since.append({**{name: found[name] for name in ("commit", "date", "minutes", "limits")}, "cases": [*again]})
    return {
        **before,
        "goals": before["goals"] | found["goals"],
        "rows": sorted(rows, key=lambda row: order.index(row["case"])),
        "since": [run for run in since if run["cases"]],
    }


def write(clock: Clock, *, seconds: float) -> dict[str, Any]:
    """How quickly texts are written, token by token."""
    started, rows = time.perf_counter(), []
    for model, beams, batch in itertools.product(MODELS, (1, 4), (1, 8)):
        setting = {"model": model, "beams": beams, "batch": batch}
        rows.append(in_its_own_process(decode, clock.device, **setting, seconds=seconds))
        median, low, high = rows[-1]["ratios"]["transformers"]
        print(f"{model}, {beams} beams, {batch} at once: transformers {median:.2f} [{low:.2f}, {high:.2f}]", flush=True)
    return {**provenance(clock.device, started), "read": READ, "written": WRITTEN, "rows": rows}


def learn(clock: Clock, *, seconds: float) -> dict[str, Any]:
    """What the training loop adds to bare steps, and how many pictures a core prepares for it."""
    started = time.perf_counter()
    rows = [in_its_own_process(loop, clock.device, batch=batch, seconds=seconds) for batch in (16, 64)]
    for row in rows:
        print(f"{row['batch']} images a step: bare steps take {row['bare by loop'][0]:.3f} of the loop", flush=True)
    return {
        **provenance(clock.device, started),
        "rows": rows,
        **in_its_own_process(pictures, seconds=min(seconds, 20.0)),
    }


def _rows(
    name: str, device: torch.device, threads: int, limits: dict[str, dict[str, float]], *, seconds: float
) -> Iterator[dict[str, Any]]:
    """Every setting of a case.

    On a CPU all peers are timed on all threads; the quickest of these also on one thread, with memory kept, in chunks.
    """
    case, quickest = CASES[name], dict[str, str]()
    for setting in settings(case, device, threads):
        aside = setting.threads == 1 < threads or setting.kept or setting.chunked
        row = compare(
            name,
            setting,
            peers=[quickest[setting.work]] if aside else [*case.peers],
            limits=limits[f"{setting.dtype}, {setting.threads} threads" if setting.threads else setting.dtype],
            seconds=seconds,
        )
        quickest.setdefault(setting.work, speed.best(row))
        print(line(row), flush=True)
        yield row


def quick(clock: Clock, recorded: dict[str, Any], names: list[str], *, seconds: float) -> int:
    """Whether the ratio to the best peer is still what it was, within what the control spread.

    It fell if the whole of its interval lies below the recorded ratio by more than that share of it.
    """
    threads, compared = torch.get_num_threads(), 0
    here, there = kind(machine(clock.device)), kind(recorded.get("machine", {}))
    if here != there:
        print(f"recorded on {there}, and this is {here}: ratios are compared, which differ less than times")
    fell: list[str] = []
    for name in names:
        dtype = "float32" if clock.device.type == "cpu" else "bfloat16"
        setting = Setting(INFERENCE, CASES[name].quick, threads if clock.device.type == "cpu" else None, dtype)
        before = next(
            (row for row in recorded["rows"] if row["case"] == name and setting._asdict().items() <= row.items()), None
        )
        if before is None:
            print(f"{name}: nothing recorded for {setting}")
            continue
        best, wide = speed.best(before), spread(before["control"])
        now = in_its_own_process(pair, name, best, setting, seconds)
        was, (is_, low, high) = before["ratios"][best][0], now["ratio"]
        held = high >= was * (1 - wide)
        print(
            f"{'✓' if held else '✗'} {name}: {best} takes {is_:.2f} [{low:.2f}, {high:.2f}] times as long, "
            f"was {was:.2f} ± {wide:.0%}",
            flush=True,
        )
        fell, compared = fell + [name] * (not held), compared + 1
    if fell:
        print(f"slower than recorded: {', '.join(fell)}")
    return int(bool(fell) or not compared)


def spread(control: tuple[float, float, float]) -> float:
    """How far from one a comparison of a model with itself goes."""
    return max(abs(value - 1) for value in control)


def line(row: dict[str, Any]) -> str:
    """A row as it is printed while the run goes on."""
    ratios = ", ".join(f"{peer} {r[0]:.2f} [{r[1]:.2f}, {r[2]:.2f}]" for peer, r in row["ratios"].items())
    how = f"{row['work']} {row['batch']}, " + (f"{row['threads']} threads" if row["threads"] else row["dtype"])
    control = row["control"]
    compiled = ", compiled" * row["compiled"] + ", memory kept" * row["kept"] + ", in chunks" * row["chunked"]
    return (
        f"{row['case']}: {how}{compiled}: {row['seconds'] * 1e3:.1f} ms, {row['share']:.0%} of the limit; {ratios}; "
        f"control {control[0]:.2f} [{control[1]:.2f}, {control[2]:.2f}]; {row['pairs']} pairs"
    )


def _limits(clock: Clock, threads: int) -> dict[str, dict[str, float]]:
    """The machine's limits by sort of numbers, and on a CPU by threads."""
    found = {}
    for count in dict.fromkeys((threads, 1)) if clock.device.type == "cpu" else (None,):
        if count:
            torch.set_num_threads(count)
        moved = copy_rate(clock)
        for dtype in ("float32",) if count else ("float32", "bfloat16"):
            key = f"{dtype}, {count} threads" if count else dtype
            found[key] = {"operations": product_rate(clock, getattr(torch, dtype)), "bytes": moved}
    torch.set_num_threads(threads)
    return found


if __name__ == "__main__":
    sys.exit(main())
