"""A chapter as it was executed."""

from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from sphinx.application import Sphinx


def executed_notebook(app: Sphinx, docname: str) -> nbformat.NotebookNode | None:
    """The chapter with its outputs, or None if it was not executed.

    MyST-NB writes the notebook next to the site, but without outputs where they came from the cache; so they are taken
    from there.
    """
    path = written(app, docname)
    if not path.exists():
        return None
    cache = get_cache(app.env.mystnb_config.execution_cache_path)  # type: ignore[attr-defined]
    try:
        _, notebook = cache.merge_match_into_notebook(nbformat.read(path, as_version=4))
    except KeyError:
        return None
    return notebook


def written(app: Sphinx, docname: str) -> Path:
    """Where MyST-NB writes the notebook of a chapter."""
    return Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"
