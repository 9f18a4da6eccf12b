"""What Colab does: every notebook alone in an empty folder, top to bottom, with the package installed.

``make colab`` runs this in an environment of its own, with Python 3.12, whatever torch is newest, and the package built
from this checkout. A cell that raises or a check that is contradicted fails the command; a trained value outside its
record is only said.
"""

import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import attention_notes
from attention_notes.claims import CONTRADICTED

BOOK = Path(__file__).resolve().parent


def main(keys: list[str]) -> int:
    """Execute all notebooks that Colab is offered, or those named; 1 if one failed."""
    twins = [path for path in sorted(BOOK.glob("*/*.ipynb")) if not keys or path.stem in keys]
    paths = [path for path in twins if "\ncolab: false\n" not in path.with_suffix(".md").read_text(encoding="utf-8")]
    package = Path(attention_notes.__file__).resolve().parent
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {len(paths)} notebooks", flush=True)
    if BOOK.parent in package.parents and ".colab" not in package.parts:
        print(f"the package is imported from {package}, not from where it was installed", file=sys.stderr)
        return 2
    failed = []
    with ThreadPoolExecutor(2) as pool:
        for path, (problems, said) in zip(paths, pool.map(alone, paths), strict=True):
            print("✗" if problems else "✓", path.stem, *(f"\n    {line}" for line in problems + said), flush=True)
            failed += [path.stem] if problems else []
    print(f"failed: {', '.join(failed)}" if failed else "every notebook passed")
    return 1 if failed else 0


def alone(path: Path) -> tuple[list[str], list[str]]:
    """Execute a notebook in an empty folder: what failed, and which trained values lie outside their records."""
    folder = Path(tempfile.mkdtemp())
    try:
        notebook = nbformat.read(shutil.copy(path, folder), as_version=4)
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}})
        try:
            client.execute()
        except CellExecutionError as error:
            return [str(error).strip()[-800:]], []
        return sort(notebook)
    finally:
        shutil.rmtree(folder)


def sort(notebook: nbformat.NotebookNode) -> tuple[list[str], list[str]]:
    """The checks of an executed notebook that failed: those that fail the command, and the others."""
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = [claim for output in outputs for claim in output.get("metadata", {}).get("claims", [])]
    bad = [(claim, f"{claim['id']} {claim['failed']}: {claim['measured']}") for claim in told if claim["failed"]]
    severe = [words for claim, words in bad if claim["failed"] == CONTRADICTED]
    return severe, [words for claim, words in bad if claim["failed"] != CONTRADICTED]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
