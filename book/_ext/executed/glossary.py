"""The glossary's role ``{introduced}``: where a term is introduced, as a link that names chapter and section."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole
from sphinx.util.nodes import make_refnode

from .rooms import page_of
from .search import HAN

PAGE = "glossary"


class Introduced(SphinxRole):
    """``{introduced}`swin#windows```: a link to that section, worded when all chapters have been read."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [nodes.inline("", "", classes=["introduced"], introduced=self.text)], []


def setup(app: Sphinx) -> None:
    """Register the role and connect."""
    app.add_role("introduced", Introduced())
    app.connect("env-before-read-docs", _again)
    app.connect("doctree-read", _mark_chinese)
    app.connect("doctree-resolved", _resolve)


def section_title(env: BuildEnvironment, docname: str, anchor: str) -> str:
    """The title of a section, by the page it is on and its anchor; without an anchor, the page's.

    Raises:
        ExtensionError: if there is no such page or section.
    """
    if docname not in env.tocs:
        raise ExtensionError(f"the glossary points to {docname!r}, and there is no such page")
    for link in env.tocs[docname].findall(nodes.reference):
        if link["anchorname"] == (f"#{anchor}" if anchor else ""):
            return link.astext()
    raise ExtensionError(f"the glossary points to {docname}#{anchor}, and {docname} has no such section")


def _again(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Make the glossary anew when anything else is read: a section that it names may have gone."""
    if docnames:
        docnames += [name for name in env.found_docs if Path(name).name == PAGE and name not in docnames]


def _mark_chinese(app: Sphinx, doctree: nodes.document) -> None:
    """Tell who reads aloud which terms are Chinese."""
    for term in doctree.findall(nodes.term):
        if HAN.search(term.astext()):
            term["classes"].append("language-zh")


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for place in list(doctree.findall(nodes.inline)):
        if "introduced" in place:
            page, _, anchor = place["introduced"].partition("#")
            target = page_of(page, Path(app.srcdir))
            section = section_title(app.env, target, anchor)
            chapter = app.env.titles[target].astext() if target in app.env.titles else page
            words = nodes.inline("", f"{chapter}: {section}" if anchor else chapter)
            place += make_refnode(app.builder, docname, target, anchor, words)
