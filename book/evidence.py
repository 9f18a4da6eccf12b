"""Record what the trained statements of the chapters come to, over seeds and instruction sets.

``python book/evidence.py [KEY ...]`` executes the cells that the trained statements of a chapter need (``sliced.py``),
each run in a process of its own with every seed shifted, and keeps what their checks were given beside the facts, in
``papers/<key>/evidence.json``. A run whose code has not changed since is not repeated, so a recording that was
interrupted goes on where it stopped. Where the code has changed, one run for each instruction set is repeated first: if
those with the kernels of a record, two at least, have its values to the last digit, the code computes the same, and the
other runs stand, also those with kernels that this machine has not or does not choose. Of a statement that the chapter
no longer makes nothing is kept. ``--try KEY`` executes a whole chapter once and lists its checks.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "book/_ext")]
PAPERS = ROOT / "src/attention_notes/papers"
# Kernels are chosen by instruction set when a process starts; these make one machine compute as several do.
INSTRUCTIONS: dict[str, dict[str, str]] = {
    "native": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
# Eight seeds, twelve runs. No shift of a test or of a page's own run (0) is left out of the instruction sets' reach.
RUNS = [("native", 1000 * n) for n in (0, 1, 2, 3)]
RUNS += [("AVX2", 1000 * n) for n in (0, 4, 5, 6)] + [("SSE4", 1000 * n) for n in (0, 2, 5, 7)]
REPEATED = [(name, 0) for name in INSTRUCTIONS]  # what shows that other code computes the same


def main() -> int:
    """Record or try; the status is 1 if a record does not bear its verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("keys", nargs="*", help="chapters; all that have trained statements if none is named")
    parser.add_argument("--try", dest="attempt", metavar="KEY", help="execute a chapter once and list its checks")
    parser.add_argument("--slice", action="store_true", help="with --try: only the cells that trained statements need")
    parser.add_argument("--shift", type=int, default=0, help="with --try: what is added to every seed")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--one", nargs=2, metavar=("KEY", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        key, file = given.one
        run(key, given.shift, Path(file))
        return 0
    if given.attempt:
        return attempt(given.attempt, given.shift, given.slice)
    return record(given.keys, given.jobs)


def record(keys: list[str], jobs: int) -> int:
    """Run what is missing of the records of some chapters, and say what they lack."""
    known = [key for key in recorded_keys() if not keys or key in keys]
    if unknown := [key for key in keys if key not in known]:
        print(f"no trained statements in {', '.join(unknown)}; known: {', '.join(recorded_keys())}", file=sys.stderr)
        return 2
    if platform.machine() not in ("x86_64", "AMD64"):
        print(f"the instruction sets {', '.join(INSTRUCTIONS)} need an x86-64 processor", file=sys.stderr)
        return 2
    marks = {key: current_hash(key) for key in known}
    kept = {key: [r for r in read(key) if r["code"] == marks[key] and _which(r) in RUNS] for key in known}
    before = {key: [r for r in read(key) if _which(r) in RUNS] for key in known if not kept[key]}
    before = {key: runs for key, runs in before.items() if len(runs) == len(RUNS)}  # whole, and of other code
    print(f"{sum(map(len, kept.values()))} runs are recorded already", flush=True)
    failed = perform([(key, *which) for which in REPEATED for key in before], marks, kept, jobs, keep=False)
    for key, old in before.items():
        values = {(r["kernels"], r["shift"]): r["values"] for r in old}
        again = [(r["values"], values.get((r["kernels"], r["shift"]))) for r in kept[key]]
        same = [_repeats(new, recorded) for new, recorded in again if recorded is not None]
        if len(again) == len(REPEATED) and len(same) >= min(2, len(REPEATED)) and all(same):
            asked = kept[key][0]["values"]  # a statement that the chapter has dropped is dropped here, too
            wider = {_which(r): r["kernels"] for r in old}  # a native run of a machine that had other kernels stands
            kept[key] = [r for r in kept[key] if r["kernels"] == wider[_which(r)]]
            rest = [r for r in old if _which(r) not in [*map(_which, kept[key])]]
            kept[key] += [{**r, "code": marks[key], "values": {c: r["values"][c] for c in asked}} for r in rest]
            print(f"{key}: {len(same)} runs gave the recorded values to the last digit, so the others stand")
        if kept[key]:
            write(key, kept[key])
    done = {key: [*map(_which, kept[key])] for key in known}
    missing = [(key, *which) for which in RUNS for key in known if which not in done[key]]
    failed += perform([one for one in missing if one not in failed], marks, kept, jobs)
    problems = [problem for key in known for problem in lacking(key)]
    print("\n".join(problems) or f"the records bear all {count_trained(known)} trained statements")
    return 1 if failed or problems else 0


def perform(
    todo: list[tuple[str, str, int]],
    marks: dict[str, str],
    kept: dict[str, list[dict[str, Any]]],
    jobs: int,
    *,
    keep: bool = True,
) -> list[tuple[str, str, int]]:
    """Do some runs, add them to what is kept, and write each when it is there; returns those that failed."""
    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(child, *one, marks[one[0]]): one for one in todo}
        for n, done in enumerate(as_completed(waiting), start=1):
            key, instructions, shift = waiting[done]
            outcome = done.result()
            if isinstance(outcome, str):
                failed.append((key, instructions, shift))
                print(f"{n}/{len(todo)}  {key}  {instructions}  +{shift}  failed: {outcome}", flush=True)
                continue
            kept[key].append(outcome)
            if keep:
                write(key, kept[key])
            print(f"{n}/{len(todo)}  {key}  {instructions}  +{shift}  {outcome['seconds']:.0f} s", flush=True)
    return failed


def _repeats(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether a run gave, for every statement that is asked for now, the recorded values."""
    return all(old.get(claim_id) == given for claim_id, given in new.items())


def _which(run: dict[str, Any]) -> tuple[str, int]:
    return run["instructions"], run["shift"]


def lacking(key: str) -> list[str]:
    """What a chapter's record lacks: it is stale, or does not bear the verdict of a trained statement."""
    from executed.sliced import trained_bounds

    from attention_notes.claims import claims, shortcomings

    runs, known = read(key), claims(key)
    if {r["code"] for r in runs} - {current_hash(key)}:
        return [f"{key}: its record is of other code than there is now: make evidence KEYS={key}"]
    return [
        problem
        for claim_id, bounds in trained_bounds(key, chapter(key)).items()
        for problem in shortcomings(claim_id, known[claim_id].verdict, runs, bounds)
    ]


def recorded_keys() -> list[str]:
    """The chapters that have trained statements."""
    from attention_notes.claims import claims, keys

    return [key for key in keys() if any(claim.kind == "trained" for claim in claims(key).values())]


def count_trained(keys: list[str]) -> int:
    """How many trained statements some chapters have."""
    from attention_notes.claims import claims

    return sum(claim.kind == "trained" for key in keys for claim in claims(key).values())


def current_hash(key: str) -> str:
    """The hash of the code that a recording of now would run."""
    from executed.sliced import code_hash, needed_cells

    return code_hash(needed_cells(key, chapter(key)), ROOT)


def chapter(key: str) -> str:
    """The text of a chapter."""
    from executed.rooms import source_file

    return source_file(key, ROOT).read_text(encoding="utf-8")


def read(key: str) -> list[dict[str, Any]]:
    """The recorded runs of a chapter."""
    file = PAPERS / key / "evidence.json"
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else []


def write(key: str, runs: list[dict[str, Any]]) -> None:
    """Write a record whole or not at all, its runs in the order of ``RUNS``."""
    runs = sorted(runs, key=lambda r: RUNS.index((r["instructions"], r["shift"])))
    file = PAPERS / key / "evidence.json"
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps({"runs": runs}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(file)


def child(key: str, instructions: str, shift: int, mark: str) -> dict[str, Any] | str:
    """One run in a process of its own: its entry of the record, or why there is none."""
    file = PAPERS / key / f".{instructions}.{shift}.part"
    command = [sys.executable, __file__, "--one", key, str(file), "--shift", str(shift)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **INSTRUCTIONS[instructions]}
    start = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not file.exists():
            return (done.stderr or done.stdout).strip()[-700:]
        found = json.loads(file.read_text(encoding="utf-8"))
    finally:
        file.unlink(missing_ok=True)
    return {
        "instructions": instructions,
        "shift": shift,
        "code": mark,
        "seconds": round(time.monotonic() - start),
        **found,
    }


def run(key: str, shift: int, file: Path) -> None:
    """Execute the slice of a chapter with shifted seeds, and write what its trained checks were given."""
    import torch
    from executed.record import circumstances
    from executed.sliced import needed_cells

    from attention_notes.claims import claims, collected

    shift_seeds(shift)
    with collected() as given:
        space: dict[str, Any] = {"__name__": "__main__"}
        for cell in needed_cells(key, chapter(key)):
            exec(compile(cell, f"<{key}>", "exec"), space)
    values = {
        claim_id: {measure.name: measure.value for measure in outcome.measures}
        for claim_id, outcome in given.items()
        if claims(key)[claim_id].kind == "trained"
    }
    told = {
        "processor": processor(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "commit": circumstances(ROOT, []).get("commit", ""),
        "date": datetime.now(UTC).date().isoformat(),
    }
    file.write_text(json.dumps({**told, "values": values}), encoding="utf-8")


def attempt(key: str, shift: int, only_slice: bool) -> int:
    """Execute a chapter in this process and list what its checks said; every exception with its cell."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    from executed.closure import code_cells
    from executed.sliced import needed_cells

    every = code_cells(chapter(key))
    cells = needed_cells(key, chapter(key)) if only_slice else every
    shift_seeds(shift)
    space: dict[str, Any] = {"__name__": "__main__"}
    raised = 0
    for cell in cells:
        start = time.monotonic()
        try:
            exec(compile(cell, f"<{key}>", "exec"), space)
        except Exception:
            raised += 1
            print(f"--- cell {every.index(cell)} raised\n{cell}\n{traceback.format_exc(limit=-3)}")
        if (took := time.monotonic() - start) > 2:
            print(f"    (cell {every.index(cell)}: {took:.0f} s)")
    print(
        f"{len(cells)} of {len(every)} cells, {raised} raised; a line that begins with a warning sign is a failed check"
    )
    return 1 if raised else 0


def shift_seeds(shift: int) -> None:
    """Add ``shift`` to every seed that this process, which is the recorder's own, will set."""
    import numpy as np
    import torch

    def shifted(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda seed, *more: function(int(seed) + shift, *more)

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(int(seed) + shift)

    class Random(random.Random):
        def __init__(self, seed: Any = None):
            super().__init__(seed + shift if isinstance(seed, int) else seed)

    torch.manual_seed = shifted(torch.manual_seed)
    torch.Generator = Generator  # type: ignore[misc]
    np.random.seed = shifted(np.random.seed)
    random.seed = shifted(random.seed)
    random.Random = Random  # type: ignore[assignment,misc]


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
