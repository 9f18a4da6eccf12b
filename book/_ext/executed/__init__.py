"""The book's Sphinx extension: executes what changed, keeps the executed twins, and writes the ledger of claims."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging

from attention_notes.claims import ClaimError, audit, calls, load_facts

from . import (
    addresses,
    api,
    dress,
    failures,
    flow,
    formulas,
    glossary,
    ledger,
    lineage,
    live,
    reading,
    record,
    search,
    seo,
    slides,
    source,
    sources,
    statements,
)
from .ahead import execute_ahead
from .closure import code_cells, files_behind, fingerprint, folder_fingerprint
from .failures import raised
from .references import resolver
from .run import executed_notebook
from .twin import make_twin, write_if_changed

logger = logging.getLogger(__name__)
_CITED = re.compile(r"\{cited\}`([^`]+)`")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    for part in (api, dress, flow, formulas, ledger, lineage, live, seo, source, statements):
        part.setup(app)
    for part in (addresses, glossary, search, slides, reading, sources, record):  # what stands at the foot comes last
        part.setup(app)
    app.connect("config-inited", _base_address)
    app.connect("builder-inited", _audit_claims)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-get-outdated", _take_out)
    app.connect("env-before-read-docs", _ledger_last)
    app.connect("env-before-read-docs", _execute_ahead)
    app.connect("source-read", _key_the_cache)
    app.connect("doctree-read", _anchor_claims)
    app.connect("build-finished", _harvest)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


def chapters(env: BuildEnvironment) -> Iterator[tuple[str, Path]]:
    """Document names and files of the pages that have cells."""
    for docname in sorted(env.found_docs):
        path = Path(env.doc2path(docname))
        if path.suffix == ".md" and code_cells(path.read_text(encoding="utf-8")):
            yield docname, path


def _base_address(app: Sphinx, config: Config) -> None:
    """The site's address follows from the repository's: https://github.com/a/b is shown at https://a.github.io/b/."""
    match = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+)/?", config.html_theme_options["repository_url"])
    if match and not config.html_baseurl:
        config.html_baseurl = f"https://{match[1]}.github.io/{match[2]}/"


def _audit_claims(app: Sphinx) -> None:
    """Before anything runs: each claim is answered exactly once, and none is unknown."""
    problems: list[str] = []
    app.env.find_files(app.config, app.builder)
    for docname, path in chapters(app.env):
        text = path.read_text(encoding="utf-8")
        try:
            run = [claim for cell in code_cells(text) for claim in calls(re.sub(r"(?m)^\s*[%!].*$", "", cell))]
            if run or _CITED.search(text):
                load_facts.cache_clear()
                problems += audit(path.stem, run, _CITED.findall(text))
        except (ClaimError, SyntaxError) as error:
            problems.append(f"{docname}: {error}")
    if problems:
        raise ExtensionError("the claims and the chapters disagree:\n  " + "\n  ".join(problems))


def _outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Chapters whose page was made from other code than there is now, or which raised; all when their dress changed."""
    folders = (_root(app) / folder for folder in ("book/_static", "book/_ext", live.FOLDER))
    dressed = folder_fingerprint(*folders)
    before, env.book_dress = getattr(env, "book_dress", dressed), dressed  # type: ignore[attr-defined]
    marks = {docname: fingerprint(path, _root(app)) for docname, path in chapters(env)}
    return [
        docname
        for docname in env.all_docs
        if before != dressed
        or env.metadata[docname].get("fingerprint") != marks.get(docname)
        or (docname in marks and executed_notebook(app, docname) is None)
    ]


def _take_out(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """A page that is no longer in the book is no longer on the site."""
    site = Path(app.outdir)
    for docname in removed:
        for file in (site / f"{docname}.html", site / "slides" / f"{Path(docname).stem}.html"):
            file.unlink(missing_ok=True)
    return []


def _ledger_last(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """The pages made from what ran are made after it, and again whenever anything ran."""
    made = [name for name in env.found_docs if Path(env.doc2path(name)).stem in ledger.PAGES]
    if docnames:
        docnames[:] = [name for name in docnames if name not in made] + made


def _execute_ahead(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Execute the chapters that will be read, as they will be read."""
    pages = ((path, path.read_text(encoding="utf-8")) for name, path in chapters(env) if name in docnames)
    execute_ahead(env, [(path, _keyed(text, fingerprint(path, _root(app)))) for path, text in pages])


def _keyed(text: str, mark: str) -> str:
    """A chapter with the fingerprint of the code behind it in its kernel's metadata, where jupyter-cache looks."""
    _, front, body = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
    matter = yaml.safe_load(front)
    matter["kernelspec"]["fingerprint"] = mark
    return f"---\n{yaml.safe_dump(matter)}---{body}"


def _key_the_cache(app: Sphinx, docname: str, text: list[str]) -> None:
    """Make the code behind a chapter part of what the cache is asked for."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md" or not code_cells(text[0]):
        return
    mark = fingerprint(path, _root(app))
    app.env.metadata[docname]["fingerprint"] = mark
    text[0] = _keyed(text[0], mark)
    for file in files_behind(path, _root(app)):
        app.env.note_dependency(str(file))


def _anchor_claims(app: Sphinx, doctree: nodes.document) -> None:
    """Give every verdict its address and its colour."""
    for cell in doctree.findall(lambda node: isinstance(node, nodes.container) and "cell" in node["classes"]):
        block = next(iter(cell.findall(nodes.literal_block)), None)
        if block is None or "check" not in block.astext():
            continue
        found = [f"claim-{claim}" for claim in calls(re.sub(r"(?m)^\s*[%!].*$", "", block.astext()))]
        verdicts = ledger.dress(cell)
        if len(verdicts) == len(found):
            for verdict, anchor in zip(verdicts, found, strict=True):
                verdict["ids"] += [anchor]
        else:
            cell["ids"] += found


def _harvest(app: Sphinx, exception: Exception | None) -> None:
    """Keep the executed twin of every chapter beside it."""
    if exception is not None or app.builder.format != "html":
        return
    repository = app.config.html_theme_options["repository_url"]
    for docname, path in chapters(app.env):
        executed = executed_notebook(app, docname)
        if executed is None:
            raise ExtensionError(f"{docname} was not executed, so there is no twin of it to keep")
        if raised(executed):
            continue
        notebook = make_twin(
            executed,
            resolve=resolver(app, docname),
            source=lambda name: source.source_of(name, _root(app)),
            repository=repository,
            fingerprint=fingerprint(path, _root(app)),
        )
        if write_if_changed(path.with_suffix(".ipynb"), notebook):
            logger.info(f"kept the executed twin {path.with_suffix('.ipynb').name}")
    failures.tell(app, [docname for docname, _ in chapters(app.env)])


def _root(app: Sphinx) -> Path:
    return Path(app.srcdir)
