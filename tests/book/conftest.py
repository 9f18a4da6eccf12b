"""The book, built once for all tests that look at it."""

from pathlib import Path

import pytest
from built import ROOT, jupyter_book
from filelock import FileLock


@pytest.fixture(scope="session")
def site(tmp_path_factory, testrun_uid) -> Path:
    """The built site, brought up to date by the first process that asks."""
    done = tmp_path_factory.getbasetemp().parent / f"built-{testrun_uid}"
    with FileLock(f"{done}.lock"):
        if not done.exists():
            build = jupyter_book(ROOT)
            assert build.returncode == 0, build.stdout[-3000:] + build.stderr[-3000:]
            done.touch()
    return ROOT / "_build/html"
