"""Chapters that have to be executed are executed ahead of the reading, several at a time, into MyST-NB's cache.

MyST-NB executes a page when it reads it, one after the other, on one core. What is in its cache by then it takes from
there. A chapter that raises is kept there too, up to the cell that raised, so that its page shows where; the end of the
build reports it and drops it from the cache (``failures.py``).
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import create_nb_reader
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging

from .closure import files_behind
from .failures import raised
from .record import circumstances

logger = logging.getLogger(__name__)
_AT_ONCE = min(os.cpu_count() or 1, 4)  # each has a kernel of its own, and holds a model or two


def execute_ahead(env: BuildEnvironment, sources: Iterable[tuple[Path, str]]) -> None:
    """Execute what the cache does not have of the pages whose files and texts are given, and keep it there."""
    config = env.mystnb_config  # type: ignore[attr-defined]
    cache = get_cache(config.execution_cache_path)
    root = Path(env.srcdir)
    waiting = [(path, notebook) for path, notebook in _notebooks(env, sources) if not _has(cache, notebook)]

    def execute(path: Path, notebook: nbformat.NotebookNode) -> tuple[Path, ExecutionResult]:
        timeout = config.execution_timeout
        return path, single_nb_execution(notebook, cwd=str(path.parent), timeout=timeout, allow_errors=False)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in as_completed([pool.submit(execute, *one) for one in waiting]):
            path, result = done.result()
            known = circumstances(root, [path, *files_behind(path, root)])
            bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time, **known})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            logger.info(f"{path}: Executed notebook in {result.time:.2f} seconds")
            if result.err is not None and not raised(result.nb):
                raise ExtensionError(f"{path}: {result.exc_string}")


def _notebooks(
    env: BuildEnvironment, sources: Iterable[tuple[Path, str]]
) -> Iterator[tuple[Path, nbformat.NotebookNode]]:
    """Pages as the notebooks that MyST-NB makes of them."""
    for path, text in sources:
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)  # type: ignore[attr-defined]
        if reader is not None:
            yield path, reader.read(text)


def _has(cache: JupyterCacheAbstract, notebook: nbformat.NotebookNode) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True
