"""A chapter as slides: its sections with their equations and figures, made from the page itself.

A slide is a screen of one long page, so that it reads without a script; the script adds the keyboard.
"""

import html
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

AT_ONCE = 4  # equations on one slide
IDEA = "the-idea-in-one-sentence"  # the section whose first paragraph stands on the first slide
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="icon" href="../_static/favicon.svg">
<link rel="stylesheet" href="../_static/katex/katex.min.css">
<link rel="stylesheet" href="../_static/slides.css">
<script defer src="../_static/slides.js"></script>
</head>
<body>
<main>
{slides}
</main>
<nav aria-label="Slides"><a href="{chapter}">To the chapter</a></nav>
</body>
</html>
"""


@dataclass
class Slide:
    """A heading, the id of its section, and what is shown under it."""

    title: str
    section: str
    shown: list[nodes.Element]


def setup(app: Sphinx) -> None:
    """Connect to Sphinx, before the head of the page is written, which links here."""
    app.connect("html-page-context", _write, priority=400)


def outline(doctree: nodes.document) -> list[Slide]:
    """The slides of a chapter but the first: a section's equations, a few at a time, and each of its figures alone."""
    slides: list[Slide] = []
    for section in doctree.findall(nodes.section):
        run: list[nodes.Element] = []
        for node in _own(section):
            if isinstance(node, nodes.figure) or len(run) == AT_ONCE or not run:
                run = []
                slides.append(Slide(section.next_node(nodes.title).astext(), section["ids"][0], run))
            run.append(node)
            if isinstance(node, nodes.figure):
                run = []
    return slides


def idea(doctree: nodes.document) -> nodes.paragraph | None:
    """The paragraph that says a chapter's idea in one sentence."""
    sections = (section for section in doctree.findall(nodes.section) if IDEA in section["ids"])
    return next((paragraph for section in sections for paragraph in section.findall(nodes.paragraph)), None)


def relink(fragment: str, docname: str) -> str:
    """A piece of a page as it reads from ``slides/``: links and pictures point where they did, and none to itself."""
    folder = posixpath.dirname(docname)

    def point(match: re.Match[str]) -> str:
        address = html.unescape(match[2])
        if re.match(r"\w+:|//", address):
            return match[0]
        there = f"{docname}.html{address}" if address.startswith("#") else posixpath.join(folder, address)
        return f'{match[1]}="../{html.escape(posixpath.normpath(there))}"'

    fragment = re.sub(r'<a class="headerlink".*?</a>|\sid="[^"]*"', "", fragment)
    return re.sub(r'\b(href|src)="([^"]*)"', point, fragment)


def page(title: str, first: str, slides: list[tuple[Slide, str]], docname: str) -> str:
    """The whole page; ``first`` is what stands under the title, ``slides`` come with what they show as HTML."""
    chapter, count = f"../{docname}.html", 1 + len(slides)
    title = html.escape(title)
    parts = [f'<section class="slide" id="slide-1"><h1>{title}</h1>{first}<p class="count">1 / {count}</p></section>']
    for number, (slide, shown) in enumerate(slides, start=2):
        heading = f'<h2><a href="{chapter}#{html.escape(slide.section)}">{html.escape(slide.title)}</a></h2>'
        parts.append(
            f'<section class="slide" id="slide-{number}">{heading}<div class="shown">{shown}</div>'
            f'<p class="count">{number} / {count}</p></section>'
        )
    return PAGE.format(title=title, slides="\n".join(parts), chapter=chapter)


def _own(section: nodes.section) -> Iterator[nodes.Element]:
    """The equations and figures of a section, without those of the sections in it and of what is folded away."""
    waiting: list[nodes.Node] = [*section.children]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, nodes.math_block | nodes.figure):
            yield node
        elif not isinstance(node, nodes.section | nodes.Text) and "dropdown" not in node.get("classes", ()):
            waiting = [*node.children, *waiting]


def _write(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Write the slides of a chapter beside its page, and tell the page where they are."""
    if doctree is None or "fingerprint" not in app.env.metadata.get(pagename, {}):
        return
    slides = outline(doctree)
    if not slides:
        return
    key, sentence = posixpath.basename(pagename), idea(doctree)
    builder: Any = app.builder

    def drawn(nodes_: list[nodes.Element]) -> str:
        return relink("".join(builder.render_partial(node.deepcopy())["fragment"] for node in nodes_), pagename)

    text = page(
        app.env.titles[pagename].astext(),
        drawn([sentence]) if sentence is not None else "",
        [(slide, drawn(slide.shown)) for slide in slides],
        pagename,
    )
    file = Path(app.outdir) / "slides" / f"{key}.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    context["slides"] = f"{'../' * pagename.count('/')}slides/{key}.html"
