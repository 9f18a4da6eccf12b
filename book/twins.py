"""Are the executed twins what they should be, before anything is executed?  Status 1 and a list if not.

A twin must be in step with its chapter, have an execution count in every cell and an output where the cell speaks,
because nbval passes over what has none, and be as it was committed or staged, because a build rewrites it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

from executed.closure import code_cells, fingerprint
from executed.rooms import executed_files

from attention_notes.claims import calls

IGNORED = {"nbval-ignore-output", "nbval-skip"}


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the twins of the chapters below ``root``, one line each."""
    for chapter in executed_files(root):
        yield from _of_twin(chapter, code_cells(chapter.read_text(encoding="utf-8")), root)
    for name in _rewritten(root):
        yield f"{name} is not as it was committed; look at the difference, then commit or stage it"


def _of_twin(chapter: Path, cells: list[str], root: Path) -> Iterator[str]:
    path = chapter.with_suffix(".ipynb")
    name = path.relative_to(root).as_posix()
    if not path.exists():
        yield f"{name} is missing: make book"
        return
    twin = nbformat.read(path, as_version=4)
    if twin.metadata.get("attention_notes", {}).get("fingerprint") != fingerprint(chapter, root):
        yield f"{name} is older than its chapter or the code behind it: make book"
    code = [cell for cell in twin.cells if cell.cell_type == "code"]
    if [cell.source.strip() for cell in code[1:]] != [cell.strip() for cell in cells]:
        yield f"{name} has other cells than its chapter: make book"
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield f"{name} has cells without an execution count, which nbval would pass over"
    for cell in code:
        said = [*calls(re.sub(r"(?m)^\s*%.*$", "pass", cell.source))]
        if (said or "print(" in cell.source) and not cell.outputs:
            yield f"{name}: no output to compare with for the cell {cell.source.strip().splitlines()[0]!r}"
        if said and IGNORED & {*cell.metadata.get("tags", [])}:
            yield f"{name}: the check of {said[0]} is left out of the comparison"


def _rewritten(root: Path) -> list[str]:
    """Twins that differ from git's index; none where there is no repository."""
    command = ["git", "-C", str(root), "diff", "--name-only", "--", "book/*/*.ipynb"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.split() if run.returncode == 0 else []


if __name__ == "__main__":
    found = [*problems(Path(__file__).resolve().parent.parent)]
    print("\n".join(found) or "every twin is in step with its chapter")
    sys.exit(1 if found else 0)
