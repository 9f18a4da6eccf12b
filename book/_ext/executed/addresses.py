"""Equations, figures and statements have addresses, and show them to who points at them; figures open large."""

import hashlib
import html
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx

ANSWERS = ("claim-", "ledger-")  # what the address of a statement begins with, in its chapter and in the ledger


def setup(app: Sphinx) -> None:
    """Connect to Sphinx: after the statements were given their ids."""
    app.add_css_file("comfort.css")
    app.add_js_file("large.js", loading_method="defer")
    app.connect("doctree-read", _address, priority=600)


def _address(app: Sphinx, doctree: nodes.document) -> None:
    name_equations(doctree)
    if app.config.html_permalinks:
        for paragraph, anchor in statements(doctree):
            paragraph += permalink(anchor, "Link to this statement", app.config.html_permalinks_icon)


def name_equations(doctree: nodes.document) -> None:
    """Give each displayed equation that has no label an id which follows from its content alone."""
    taken = {name for node in doctree.findall(nodes.Element) for name in node["ids"]}
    for node in doctree.findall(nodes.math_block):
        if node["ids"]:
            continue
        name = "formula-" + hashlib.sha256("".join(node.astext().split()).encode()).hexdigest()[:8]
        free = next(new for new in _numbered(name) if new not in taken)
        taken.add(free)
        node["ids"].append(free)


def statements(doctree: nodes.document) -> Iterator[tuple[nodes.paragraph, str]]:
    """The paragraphs that give a verdict, each with its address."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        anchor = next((name for name in paragraph["ids"] if name.startswith(ANSWERS)), None)
        if anchor and "verdict" in paragraph["classes"]:
            yield paragraph, anchor


def permalink(anchor: str, title: str, icon: str) -> nodes.raw:
    """A link to ``anchor`` as the theme's headings have it; the search leaves it out."""
    link = f'<a class="headerlink" href="#{html.escape(anchor)}" title="{title}">{icon}</a>'
    return nodes.raw("", link, format="html")


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
