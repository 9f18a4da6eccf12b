"""The book, built once for all tests that look at it."""

from pathlib import Path

import pytest
from built import ROOT, jupyter_book


@pytest.fixture(scope="session")
def site() -> Path:
    """The built site, brought up to date."""
    build = jupyter_book(ROOT)
    assert build.returncode == 0, build.stdout[-3000:] + build.stderr[-3000:]
    return ROOT / "_build/html"
