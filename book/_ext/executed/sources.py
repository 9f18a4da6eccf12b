"""On paper a citation cannot be followed, so a printed chapter ends with what it cites, in full and with addresses."""

import html
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.add_css_file("print.css")
    app.add_js_file("print.js", loading_method="defer")
    app.connect("html-page-context", _list)


def cited(doctree: nodes.document) -> list[str]:
    """The works that a page cites, each once, as the bibliography words them."""
    citations = (node for node in doctree.findall(nodes.inline) if "bibtex-citation" in node["classes"])
    found = {link.get("reftitle", "") for node in citations for link in node.findall(nodes.reference)}
    return sorted(found - {""}, key=str.casefold)


def _list(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    works = cited(doctree) if doctree is not None else []
    if works:
        entries = "".join(f"<li>{html.escape(work)}</li>" for work in works)
        context["body"] += f'\n<div class="print-only sources"><h2>Sources</h2><ul>{entries}</ul></div>\n'
