"""At the foot of a chapter: when it was executed, at which commit, with what, and how long that took.

All of it is kept with the outputs in MyST-NB's cache. So it tells of the execution that made what the page shows, and a
build that executes nothing changes none of it. An execution of which something is not known says less.
"""

import html
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.cache.db import NbCacheRecord, session_context
from sphinx.application import Sphinx

from .closure import files_behind


def setup(app: Sphinx) -> None:
    """Connect to Sphinx; what was executed before this moment was executed by another build."""
    began = datetime.now(UTC).replace(tzinfo=None)

    def keep(app: Sphinx, doctree: nodes.document) -> None:
        told = _kept(app, app.env.docname, began)
        if told:
            app.env.metadata[app.env.docname]["executed"] = told

    app.connect("doctree-read", keep, priority=700)
    app.connect("html-page-context", _tell)


def circumstances(root: Path, files: Iterable[Path]) -> dict[str, Any]:
    """What an execution of now can say of itself: torch's version, the commit, and whether ``files`` differ from it."""
    found: dict[str, Any] = {}
    with suppress(PackageNotFoundError):
        found["torch"] = version("torch").split("+")[0]
    commit = _git(root, "rev-parse", "HEAD")
    if commit and Path(_git(root, "rev-parse", "--show-toplevel")).resolve() == root.resolve():
        found["commit"] = commit
        found["changed"] = bool(_git(root, "status", "--porcelain", "--", *map(str, files)))
    return found


def sentence(told: dict[str, Any], repository: str) -> str:
    """The record in words: ``{"date": "2026-11-21", "seconds": 61.5, "commit": ..., "python": ..., "torch": ...}``."""
    day = datetime.fromisoformat(told["date"])
    parts = [f'Executed on <time datetime="{told["date"]}">{day.day} {day:%B %Y}</time>']
    if commit := told.get("commit"):
        more = ", with changes that were not committed" if told.get("changed") else ""
        address = html.escape(f"{repository.rstrip('/')}/commit/{commit}")
        parts.append(f' at commit <a href="{address}"><code>{commit[:7]}</code></a>{more}')
    used = [f"{name} {told[key]}" for key, name in (("python", "Python"), ("torch", "torch")) if told.get(key)]
    parts += [f", with {' and '.join(used)}"] if used else []
    seconds = max(1, round(told.get("seconds") or 0))
    parts += [f", in {seconds} second{'s' if seconds > 1 else ''}"] if told.get("seconds") else []
    return "".join([*parts, "."])


def _kept(app: Sphinx, docname: str, began: datetime) -> dict[str, Any] | None:
    """The record of a chapter's execution, completed once by the build that executed it."""
    notebook = Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"
    if "fingerprint" not in app.env.metadata.get(docname, {}) or not notebook.exists():
        return None
    cache = get_cache(app.env.mystnb_config.execution_cache_path)  # type: ignore[attr-defined]
    try:
        record = cache.match_cache_notebook(nbformat.read(notebook, as_version=4))
    except KeyError:
        return None
    data = {**(record.data or {})}
    if "python" not in data:
        executed = cache.get_cache_bundle(record.pk).nb
        data["python"] = executed.metadata.get("language_info", {}).get("version", "")
        if "torch" not in data and record.created >= began:
            chapter, root = Path(app.env.doc2path(docname)), Path(app.srcdir)
            data |= circumstances(root, [chapter, *files_behind(chapter, root)])
        _complete(cache.db, record.pk, data)
    return {**data, "date": record.created.date().isoformat(), "seconds": data.get("execution_seconds")}


def _complete(database: Any, pk: int, data: dict[str, Any]) -> None:
    with session_context(database) as session:
        session.query(NbCacheRecord).filter_by(pk=pk).update({"data": data})
        session.commit()


def _tell(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put the record under the chapter."""
    told: Any = app.env.metadata.get(pagename, {}).get("executed")
    if doctree is not None and told:
        line = sentence(told, app.config.html_theme_options["repository_url"])
        context["body"] += f'\n<p class="executed">{line}</p>\n'


def _git(root: Path, *words: str) -> str:
    """What git says, or nothing where there is no git, no repository or no such thing."""
    try:
        run = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
