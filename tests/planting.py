"""Run tests against a copy of the package with a fault in it, in a process that begins with the imports done.

``multiprocessing``'s fork server imports what tests import, but not the package, and forks for every run. Where forking
is not safe (macOS) a run starts from nothing, and takes longer.
"""

import contextlib
import io
import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import jaxtyping
import pytest

ROOT = Path(__file__).resolve().parent.parent
PRELOADED = ["pytest", "torch", "einops", "jaxtyping", "beartype", "numpy", "matplotlib.pyplot"]

_processes = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
if sys.platform == "linux":
    _processes.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``right`` becomes ``wrong``; the test ``caught_by``, named as below ``tests/``, must notice."""

    file: str
    right: str
    wrong: str
    caught_by: str


class Outcomes:
    """A plugin of pytest that keeps what became of each test: ``passed``, ``failed``, ``skipped`` or ``error``."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails before or after its own lines is an error."""
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid] = report.outcome if report.when == "call" or report.skipped else "error"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What cannot be collected is an error as well."""
        if report.failed:
            self.of[report.nodeid] = "error"


def outcomes(tests: list[str], source: Path, *, stop: bool = True) -> dict[str, str]:
    """What becomes of tests, named as below ``tests/``, with the package as it is in ``source``.

    Args:
        tests: files, or tests as ``papers/vit/test_model.py::test_it``.
        source: the folder that holds ``attention_notes``.
        stop: after the first that fails.
    """
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_run, args=(tests, str(source), stop, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process that ran {' '.join(tests)} died, status {process.exitcode}") from None
    finally:
        process.join()


def _run(tests: list[str], source: str, stop: bool, sender) -> None:
    sys.path.insert(0, source)
    os.chdir(ROOT)
    jaxtyping.install_import_hook = lambda *_: None  # a test must catch a fault itself; checks of axes load slowly
    kept = Outcomes()
    alone = ["--disable-plugin-autoload", "-p", "no:cacheprovider"]  # other plugins take longer to load than a test
    options = ["-q", "--no-header", *alone, *(["-x"] if stop else [])]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        pytest.main([*options, *(f"tests/{test}" for test in tests)], plugins=[kept])
    sender.send(kept.of)
    sender.close()
