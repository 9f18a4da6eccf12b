"""What only a GPU can show, in one command of less than ten minutes: ``make cuda``.

The contract suite on CUDA, every notebook from top to bottom with its checks, which kernel
``F.scaled_dot_product_attention`` chooses for each model, and the ratios of the comparison for a few of them, eager and
compiled, in float32 and bfloat16. Everything goes into one JSON file, written anew after each part, so that what was
found before the time was up is kept. It needs no network: what the machine lacks lies as wheels in ``.wheels``
(``make wheels``).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / ".wheels"
MODELS = ("ViT-B/16", "Swin-T", "Swin V2-T", "PVT v2-B2", "Non-local block")
PEER = "timm"
LIBRARIES = ("torch", "timm", "torchvision", "transformers", "numpy", "einops")
RESULT = ROOT / "benchmarks/records/cuda_check.json"
NOTEBOOKS = sorted(ROOT.glob("book/*/*.ipynb"))


def main(arguments: list[str] | None = None) -> int:
    """Run all parts; the status is 1 if the contract, a cell or a check that is not of a training failed."""
    parser = argparse.ArgumentParser(prog="python benchmarks/cuda.py", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", help="cpu: to try the command itself where there is no GPU")
    parser.add_argument("--minutes", type=float, default=8.5, help="what is not done by then is left out, and said")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--models", nargs="*", default=MODELS, choices=MODELS, metavar="MODEL", help="; ".join(MODELS))
    parser.add_argument("--notebooks", nargs="*", default=[path.stem for path in NOTEBOOKS], metavar="KEY")
    parser.add_argument("--tests", default="", help="only the tests of the contract that pytest's -k selects")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each ratio")
    parser.add_argument("--batch", type=int, default=64, help="inputs at once")
    parser.add_argument("--jobs", type=int, default=max(2, (os.cpu_count() or 2) // 2))
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "ARGUMENTS"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        what, words = given.one
        given.out.write_text(json.dumps(PARTS[what](**json.loads(words))), encoding="utf-8")
        return 0
    return Run(given).all()


class Run:
    """One run of the command: its parts, the time that is left, and the file that grows."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.until = given, time.monotonic() + 60 * given.minutes
        self.environment = equipped({**os.environ, "MPLBACKEND": "Agg"})
        self.found: dict[str, Any] = {"left out": []}

    def all(self) -> int:
        """Every part, in an order in which nothing is timed while something else runs."""
        self.keep("machine", self.part("machine", 60, device=self.given.device))
        if not self.found["machine"]["device"]:
            print(f"no {self.given.device} device here: {self.found['machine']}", file=sys.stderr)
            return 2
        with ThreadPoolExecutor(self.given.jobs) as pool:
            contract = pool.submit(self.contract)
            compiled = [pool.submit(self.part, "warm", 240, **which) for which in self.settings() if which["compiled"]]
            pages = {key: pool.submit(self.part, "notebook", 240, key=key) for key in self.given.notebooks}
            self.keep("notebooks", {key: page.result() for key, page in pages.items()})
            self.keep("contract", contract.result())
            self.keep("compiling failed", [one["error"] for one in (w.result() for w in compiled) if "error" in one])
        self.keep("kernels", [self.part("kernels", 60, **which) for which in self.settings()])
        self.keep("ratios", [self.part("ratio", 120, seconds=self.given.seconds, **which) for which in self.settings()])
        return self.report()

    def settings(self) -> list[dict[str, Any]]:
        """Model, numbers, eager or compiled, batch; those of one model together, so that a cut leaves whole models."""
        return [
            {"name": name, "dtype": dtype, "compiled": compiled, "batch": self.given.batch, "device": self.given.device}
            for name in self.given.models
            for dtype in ("float32", "bfloat16")
            for compiled in (False, True)
        ]

    def part(self, what: str, limit: float, **words: Any) -> dict[str, Any]:
        """One piece of work in a process of its own: what it gives, or the error that ended it."""
        left = self.until - time.monotonic()
        if left < 5:
            self.found["left out"].append(f"{what} {words.get('name', words.get('key', ''))}".strip())
            return {**words, "error": "no time was left"}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "found.json"
            command = [sys.executable, __file__, "--one", what, json.dumps(words), "--out", str(file)]
            try:
                done = subprocess.run(
                    command, env=self.environment, capture_output=True, text=True, timeout=min(limit, left), check=False
                )
            except subprocess.TimeoutExpired:
                return {**words, "error": f"not done after {min(limit, left):.0f} s"}
            if done.returncode or not file.exists():
                return {**words, "error": (done.stderr or done.stdout).strip()[-1500:]}
            return {**words, **json.loads(file.read_text(encoding="utf-8"))}

    def contract(self) -> dict[str, Any]:
        """The contract suite, on the device."""
        left = self.until - time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "contract.xml"
            command = [sys.executable, "-m", "pytest", "-q", "tests/test_contract.py", f"--junitxml={report}"]
            command += ["-k", self.given.tests] if self.given.tests else []
            command += ["-n", str(max(1, self.given.jobs // 2)), "-p", "no:cacheprovider"]
            try:
                subprocess.run(
                    command,
                    cwd=ROOT,
                    env=self.environment,
                    capture_output=True,
                    text=True,
                    timeout=max(left, 1),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"error": f"not done after {left:.0f} s"}
            return counted(report) if report.exists() else {"error": "pytest wrote no report"}

    def keep(self, name: str, value: Any) -> None:
        """Put a part into the file, which is whole at any time."""
        self.found[name] = value
        unfinished = self.given.out.with_suffix(".part")
        unfinished.write_text(json.dumps(self.found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(self.given.out)

    def report(self) -> int:
        """Say what came out; 1 if something failed that is not a trained value."""
        problems = failures(self.found)
        for line in (*lines(self.found), *(f"FAILED {problem}" for problem in problems)):
            print(line)
        print(f"written to {self.given.out}")
        return int(bool(problems))


def failures(found: dict[str, Any]) -> list[str]:
    """What must not be: a failed test, a cell that raised, a check contradicted, a part that ended in an error."""
    problems = [f"contract: {name}" for name in found["contract"].get("failed", [])]
    problems += [f"contract: {found['contract']['error']}"] if "error" in found["contract"] else []
    for key, page in found["notebooks"].items():
        problems += [f"{key}: {page['error']}"] if page.get("error") else []
        problems += [f"{key}: {line}" for line in page.get("contradicted", [])]
    problems += [f"compiling: {error}" for error in found["compiling failed"]]
    rows = [*found["kernels"], *found["ratios"]]
    problems += [f"{row['name']}, {row['dtype']}: {row['error']}" for row in rows if "error" in row]
    return problems


def lines(found: dict[str, Any]) -> list[str]:
    """The report of a run, a line each."""
    said = [f"{found['machine']['device']}, torch {found['machine']['versions']['torch']}"]
    if "error" not in found["contract"]:
        said.append("contract: {passed} passed, {skipped} skipped, {failures} failed".format(**found["contract"]))
    for key, page in found["notebooks"].items():
        said.append(f"{key}: {page.get('checks', 0)} checks in {page.get('seconds', 0):.0f} s")
        said += [f"  {line}" for line in page.get("trained", [])]
        said += [f"  outside its record: {line}" for line in page.get("outside", [])]
    for row in found["kernels"]:
        said.append(f"{setting_of(row)}: {', '.join(row.get('kernels', []))}")
    for row in found["ratios"]:
        if "ratio" in row:
            said.append(
                "{}: {} takes {:.2f} [{:.2f}, {:.2f}] times as long".format(setting_of(row), PEER, *row["ratio"])
            )
    said += [f"left out for want of time: {name}" for name in found["left out"]]
    return said


def setting_of(row: dict[str, Any]) -> str:
    """A row's setting in words."""
    return f"{row['name']}, {row['dtype']}, {'compiled' if row['compiled'] else 'eager'}"


def counted(report: Path) -> dict[str, Any]:
    """A JUnit report in numbers, with the names of the tests that failed."""
    cases = [*ElementTree.parse(report).iter("testcase")]
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [str(case.get("name")) for case in bad]
    return {"passed": len(cases) - len(bad) - skipped, "skipped": skipped, "failures": len(bad), "failed": names}


def equipped(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which a child finds this checkout's package, and the wheels that were brought along."""
    paths = [str(ROOT / "src"), str(ROOT), environment.get("PYTHONPATH", "")]
    if wheels := sorted(map(str, WHEELS.glob("*.whl"))):
        target = tempfile.mkdtemp(prefix="wheels-")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, *wheels]
        subprocess.run(command, check=True)
        paths.append(target)  # last: what the machine has goes first
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def machine(device: str) -> dict[str, Any]:
    """What it runs on; ``device`` is empty where there is no such device."""
    import torch

    name = platform.processor() or platform.machine()
    if device == "cuda":
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "none"
    asked = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "device": name,
        "cuda": torch.version.cuda or "",
        "python": platform.python_version(),
        "versions": versions,
        "commit": asked.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def notebook(key: str) -> dict[str, Any]:
    """Every cell of a twin but the first, which installs; its checks, by what came of them."""
    from attention_notes.claims import CONTRADICTED, OUTSIDE, claims, collected, spread

    (twin,) = ROOT.glob(f"book/*/{key}.ipynb")
    cells = json.loads(twin.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][1:]
    space: dict[str, Any] = {"__name__": "__main__"}
    start, error = time.monotonic(), ""
    os.chdir(tempfile.mkdtemp())
    with collected() as given:
        for n, source in enumerate(sources, start=1):
            try:
                exec(compile(source, f"<{key}, cell {n}>", "exec"), space)
            except Exception:
                error = f"cell {n} raised: {traceback.format_exc(limit=-2).strip()[-800:]}"
                break
    trained = []
    for claim_id, outcome in given.items():
        claim = claims(key)[claim_id]
        for measure in outcome.measures if claim.kind == "trained" else ():
            recorded = spread(key, claim_id, measure)
            trained.append(f"{claim_id}: {measure.words(record=recorded.words() if recorded else 'not recorded yet')}")

    def those(kind: str) -> list[str]:
        bad = {claim_id: outcome.measures for claim_id, outcome in given.items() if outcome.failed == kind}
        return [f"{claim_id}: {'; '.join(m.words() for m in measures)}" for claim_id, measures in bad.items()]

    return {
        "checks": len(given),
        "contradicted": those(CONTRADICTED),
        "outside": those(OUTSIDE),
        "trained": trained,
        "error": error,
        "seconds": time.monotonic() - start,
    }


def warm(name: str, dtype: str, compiled: bool, batch: int, device: str) -> dict[str, Any]:
    """Compile a model and its peer once, so that the timing finds their kernels in the compiler's cache."""
    for run in _works(name, dtype, compiled, batch, device):
        run()
    return {}


def kernels(name: str, dtype: str, compiled: bool, batch: int, device: str) -> dict[str, Any]:
    """Which operators compute the attention of a model, by name: fused ones, or softmax between two products."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    run = next(iter(_works(name, dtype, compiled, batch, device)))
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    names = {event.key.removeprefix("aten::").removeprefix("_") for event in seen.key_averages()}
    prefix = "scaled_dot_product_"
    fused = {name.removeprefix(prefix) for name in names if name.startswith(prefix)} - {"attention"}
    return {"kernels": sorted(fused) or ["math"]}


def ratio(name: str, dtype: str, compiled: bool, batch: int, device: str, seconds: float) -> dict[str, Any]:
    """How many times as long the peer takes, as in the comparison: equal first, then pair by pair."""
    import torch

    from benchmarks.cases import INFERENCE
    from benchmarks.compare import Setting, pair

    torch.set_float32_matmul_precision("highest")
    threads = torch.get_num_threads() if device == "cpu" else None
    found = pair(name, PEER, Setting(INFERENCE, batch, threads, dtype, compiled), seconds)
    return {key: found[key] for key in ("ratio", "seconds", "pairs", "apart")} | {"peer": PEER}


def _works(name: str, dtype: str, compiled: bool, batch: int, device: str) -> list[Callable[[], object]]:
    """One call of ours, and one of the peer's, made as ``pair`` makes them."""
    import torch

    from benchmarks.cases import CASES, INFERENCE
    from benchmarks.compare import Setting, work_of

    torch.set_float32_matmul_precision("highest")
    case, place, numbers = CASES[name], torch.device(device), getattr(torch, dtype)
    setting = Setting(INFERENCE, batch, None, dtype, compiled)
    ours = case.model()
    models = [ours, case.peers[PEER](ours).eval()]
    inputs = case.inputs(batch, place, numbers)
    return [work_of(model.to(place, numbers), inputs, setting) for model in models]


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine,
    "notebook": notebook,
    "warm": warm,
    "kernels": kernels,
    "ratio": ratio,
}

if __name__ == "__main__":
    sys.exit(main())
