"""What a build found to be otherwise than recorded: listed at its end, once the site is there.

A check that contradicts its record shows so on the page and lets the chapter go on. So does a cell that raises. Both
make the command fail when everything has been built. A trained value outside its record is a warning: it may come from
another processor, and ``make test`` judges it.
"""

from dataclasses import dataclass

import nbformat
from jupyter_cache import get_cache
from sphinx.application import Sphinx
from sphinx.util import logging

from attention_notes.claims import OUTSIDE

from .run import executed_notebook, written

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """One place of a chapter: what came out there, and whether it fails the build."""

    words: str
    fails: bool
    raised: bool = False


def failures(notebook: nbformat.NotebookNode) -> list[Failure]:
    """What an executed chapter found to be otherwise, in its order."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                first = cell.source.strip().splitlines()[0]
                words = f"the cell that begins with {first!r} raised {output.ename}: {output.evalue}"
                found.append(Failure(words, fails=True, raised=True))
            for claim in output.get("metadata", {}).get("claims", []):
                if claim["failed"]:
                    words = f"{claim['id']} {claim['failed']}: {claim['measured']}"
                    found.append(Failure(words, fails=claim["failed"] != OUTSIDE))
    return found


def raised(notebook: nbformat.NotebookNode) -> bool:
    """Whether a cell of an executed chapter raised."""
    return any(one.raised for one in failures(notebook))


def tell(app: Sphinx, docnames: list[str]) -> None:
    """List what failed in all chapters and set the command's status; what raised is executed again next time."""
    found = {name: failures(notebook) for name in docnames if (notebook := executed_notebook(app, name))}
    for name, failed in found.items():
        if any(one.raised for one in failed):
            _forget(app, name)
    severe = [f"{name}: {one.words}" for name, failed in found.items() for one in failed if one.fails]
    others = [f"{name}: {one.words}" for name, failed in found.items() for one in failed if not one.fails]
    if others:
        logger.warning("trained values outside their records:\n  " + "\n  ".join(others))
    if severe:
        app.statuscode = 1
        logger.error(f"the site is built at {app.outdir}, but this came out otherwise:\n  " + "\n  ".join(severe))


def _forget(app: Sphinx, docname: str) -> None:
    """Drop a chapter from the cache of executions."""
    cache = get_cache(app.env.mystnb_config.execution_cache_path)  # type: ignore[attr-defined]
    cache.remove_cache(cache.match_cache_notebook(nbformat.read(written(app, docname), as_version=4)).pk)
