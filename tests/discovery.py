"""What the tests of each paper bring to the suites that go over all papers.

A paper's folder, ``tests/papers/<key>/``, may have ``cases.py`` (small models for the contract), ``faults.py`` (seeded
faults) and ``foreign.py`` (the same models of other libraries).
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PAPERS = Path(__file__).parent / "papers"


def keys() -> list[str]:
    """The papers that have tests."""
    return sorted(folder.name for folder in PAPERS.iterdir() if any(folder.glob("test_*.py")))


def of_papers(module: str, name: str) -> Iterator[tuple[str, str, Any]]:
    """The entries of the dictionary ``name`` in every paper's ``module``, as key, name and entry."""
    for key in keys():
        if (PAPERS / key / f"{module}.py").exists():
            entries = getattr(import_module(f"tests.papers.{key}.{module}"), name, {})
            yield from ((key, entry, value) for entry, value in entries.items())
