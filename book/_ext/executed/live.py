"""Live components on the site: scripts, data and pictures at addresses of their own, fetched when a figure comes near.

A component's output carries its script, its data and its still picture, because a notebook has nowhere else to take
them from. The site has: they are written beside its other files, and what the outputs carry is dropped.
"""

import base64
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from attention_notes.chapters.widgets import kinds, parts

from .rooms import page_of
from .run import executed_notebook

FOLDER = Path("src/attention_notes/chapters/widgets")
SCRIPT = "components.js"  # all kinds in one file: several small ones cost a reader more than one
_CARRIED = re.compile(r"<(style|script) data-live-source>.*?</\1>", re.DOTALL)
_DATA = re.compile(r'(<script type="application/json")>([^<]*)</script>')
_FILE = re.compile(r'(<script type="application/octet-stream" data-file="[^"]*")>([^<]*)</script>')
_STILL = re.compile(r'(<img) src="data:image/png;base64,([^"]*)"')
_KIND = re.compile(r'<figure class="live" data-live="([\w-]+)"')


def is_live(html: str) -> bool:
    """Whether an output in HTML is a live component."""
    return _KIND.search(html) is not None


class Live(SphinxDirective):
    """``{live} swin sees``: the component of that kind that a chapter shows, as it was executed there."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        key, kind = self.arguments
        notebook = executed_notebook(self.env.app, page_of(key, Path(self.env.srcdir)))
        cells = notebook.cells if notebook else []
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        found = [html for output in outputs if is_live(html := output.get("data", {}).get("text/html", ""))]
        for html in found:
            if f'data-live="{kind}"' in html:
                return [nodes.raw("", html, format="html")]
        if notebook:
            raise self.error(f"{key} shows no live component of the kind {kind!r}")
        return []


def setup(app: Sphinx) -> None:
    """Connect to Sphinx. Styles are few and go into the one sheet of all pages; the script to pages with figures."""
    for name in dict.fromkeys(name for kind in kinds() for name in parts(kind) if name.endswith(".css")):
        app.add_css_file(f"live/{name}")
    app.add_directive("live", Live)
    app.connect("builder-inited", _copy_scripts)
    app.connect("doctree-read", _drop_carried)
    app.connect("html-page-context", _add_scripts)
    app.connect("build-finished", _write_files)


def drop_carried(html: str, *, root: str) -> tuple[str, dict[str, bytes]]:
    """A component as the site has it, and its files by the names that they get; ``root`` leads to the site's root."""
    files: dict[str, bytes] = {}

    def address(content: bytes, ending: str) -> str:
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
        files[name] = content
        return f"{root}_static/live/{name}"

    def told(match: re.Match[str]) -> str:
        # a script, which a page also gets from a folder without a server; it says its data to whom it was sent for
        return f'{match[1]} data-address="{address(f"Live.tell({match[2]});".encode(), "js")}"></script>'

    def moved(match: re.Match[str]) -> str:
        return f'{match[1]} data-address="{address(base64.b64decode(match[2]), "bin")}"></script>'

    def drawn(match: re.Match[str]) -> str:
        return f'{match[1]} src="{address(base64.b64decode(match[2]), "png")}"'

    return _STILL.sub(drawn, _FILE.sub(moved, _DATA.sub(told, _CARRIED.sub("", html)))), files


def _copy_scripts(app: Sphinx) -> None:
    if app.builder.format != "html":
        return
    target = _target(app)
    for file in sorted((Path(app.srcdir) / FOLDER).glob("*.css")):
        shutil.copy(file, target)
    names = dict.fromkeys(name for kind in kinds() for name in parts(kind) if name.endswith(".js"))
    texts = [(Path(app.srcdir) / FOLDER / name).read_text(encoding="utf-8") for name in names]
    (target / SCRIPT).write_text("\n;\n".join(texts), encoding="utf-8")


def _drop_carried(app: Sphinx, doctree: nodes.document) -> None:
    """Leave the figures, and note which files they need."""
    docname, files = app.env.docname, dict[str, bytes]()
    for raw in doctree.findall(nodes.raw):
        if "html" in raw.get("format", "").split() and is_live(text := raw.astext()):
            kept, own = drop_carried(text, root="../" * docname.count("/"))
            raw.clear()
            raw += nodes.Text(kept)
            files |= own
    if files:
        app.env.metadata[docname] |= {"live_files": files}


def _add_scripts(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    if app.env.metadata.get(pagename, {}).get("live_files"):
        app.add_js_file(f"live/{SCRIPT}", loading_method="defer")


def _write_files(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    for page in app.env.metadata.values():
        for name, content in page.get("live_files", {}).items():
            (_target(app) / name).write_bytes(content)


def _target(app: Sphinx) -> Path:
    folder = Path(app.outdir) / "_static/live"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
