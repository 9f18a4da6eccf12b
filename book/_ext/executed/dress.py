"""Dress the pages so that they are there at once: little to load, nothing that waits for a script, nothing that jumps.

The theme brings half a megabyte that a page does not use: a script that draws icons, another for menus and tooltips,
the search index on every page. What is needed of it is done when the book is built, or by ``_static/dress.js``.
"""

import hashlib
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

from .codes import lighten_code
from .icons import draw_icons
from .pictures import size_pictures
from .styles import THEME, bundle, names_in

SHEET, SCRIPT = "dressed.css", "dressed.js"
FIRST_PART = '<span id="first-part" hidden></span>\n'  # its end
# Scripts that no page of this book asks for, by what stands in their names or in their text.
_NEEDLESS = re.compile(r"thebe|togglebutton|toggleHint|toggleOpenOnPrint|DOCUMENTATION_OPTIONS\.\w+ =", re.IGNORECASE)
# What of the theme is left out of the site: nothing fetches it.
_UNUSED = ("**/*.map", "scripts/bootstrap.js*", "scripts/fontawesome.js*", "vendor", "locales", "*macros.html")
_REPLACED = ("togglebutton.*", "*thebe*")
_LEFT_OVERS = re.compile(
    r'<script type="text/x-thebe-config">.*?</script>\s*|<script>\s*kernelName = .*?</script>\s*', re.DOTALL
)
_ADDRESS = re.compile(r'\b(href|src|action|data-content_root|data-address)="(?![a-z]+:|/|#)([^"]+)"')
# What the theme writes that stands in the way of who listens to a page, and what is written in its place.
_BARRIERS = {
    re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="[^"]*"'): r"\1",  # its words are its name
    re.compile(r'(<div id="pst-primary-sidebar")(?! role)'): r'\1 role="complementary" aria-label="The book"',
    re.compile(r'<th class="head[^"]*"><p></p></th>'): "<td></td>",  # a head without words is a corner
    re.compile(r'role="doc-biblioentry"'): 'role="listitem"',  # what the list that it stands in asks for
    re.compile(r"<h1></h1>"): "",
    re.compile(r'<summary aria-label="Toggle hidden content">'): "<summary>",  # its words are its name, too
}
# The theme measures all code before the reader sees a line of it; dress.js measures a box once it has been laid out.
_THEME_SCRIPT = "scripts/pydata-sphinx-theme.js"
_MEASURES = re.compile(r'document\.querySelectorAll\(\["pre",[^\]]*\]\.join\(", "\)\)')
_APART = re.compile(r"\S {2,}\S")  # words of one line in two columns
# Fonts of formulas, by the classes that ask for them: a font that comes late lays the page out anew.
_FONTS = {
    r"katex": "Main-Regular",
    r"mathnormal": "Math-Italic",
    r"mathbf": "Main-Bold",
    r"amsrm|mathbb|textbb": "AMS-Regular",
    r"mathcal": "Caligraphic-Regular",
    r"delimsizing size1|small-op": "Size1-Regular",
    r"delimsizing size2|large-op": "Size2-Regular",
}


class Folded(nodes.General, nodes.Element):
    """An admonition that opens when its title is clicked; its first child is the title."""


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.add_node(Folded, html=(_unfold, None))
    app.add_css_file("dress.css")
    app.add_js_file(_THEME_SCRIPT, priority=600)
    app.add_js_file("dress.js", priority=600)
    app.connect("config-inited", _configure)
    app.connect("builder-inited", _sort_sheets, priority=950)
    app.connect("doctree-resolved", _fold)
    app.connect("doctree-resolved", _mark)
    app.connect("doctree-resolved", _keep_columns)
    app.connect("html-page-context", _lighten, priority=950)
    app.connect("build-finished", _finish, priority=950)


def pages_of(folder: Path) -> Iterator[Path]:
    """The pages of the built site."""
    return (page for page in sorted(folder.rglob("*.html")) if "_static" not in page.relative_to(folder).parts)


def finished(text: str, folder: Path) -> str:
    """A page of the theme with its icons, and the sizes of pictures and code; to finish it again changes nothing."""
    text = _LEFT_OVERS.sub("", text)
    for barrier, instead in _BARRIERS.items():
        text = barrier.sub(instead, text)
    return size_pictures(draw_icons(lighten_code(text)), folder)


def moved(text: str, place: str) -> str:
    """A page whose relative addresses start from ``place``: as seen from elsewhere, or absolute."""

    def move(match: re.Match[str]) -> str:
        address = posixpath.normpath(posixpath.join(place, match[2]))
        return f'{match[1]}="{address}{"/" * match[2].endswith("/")}"'

    return _ADDRESS.sub(move, text)


def _configure(app: Sphinx, config: Config) -> None:
    config.templates_path = [*config.templates_path, str(Path(__file__).with_name("templates"))]
    config.html_use_index = False  # the entries are for the search; a list of them would be the table of contents again
    config.html_theme_options.setdefault("primary_sidebar_end", [])  # by default a place for advertisements


def _fold(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Folded admonitions fold by themselves: the theme's way hides them with a script, and the page jumps."""
    for box in list(doctree.findall(nodes.Admonition)):
        if "dropdown" in box["classes"] and app.builder.format == "html":
            titled = isinstance(box.children[0], nodes.title)
            words = box.children[0].children if titled else [nodes.Text(box.tagname.capitalize())]
            title = nodes.inline("", "", *words)
            box.replace_self(Folded("", title, *box.children[titled:], classes=box["classes"], ids=box["ids"]))


def _mark(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Where the first part of a page ends, before which a browser does not draw: a half-read table jumps."""
    if app.builder.format == "html" and (page := doctree.next_node(nodes.section)):
        parts = [place for place, child in enumerate(page.children) if isinstance(child, nodes.section)]
        page.insert(parts[1] if len(parts) > 1 else len(page), nodes.raw("", FIRST_PART, format="html"))


def has_columns(text: str) -> bool:
    """Whether what was printed is a table: in two lines or more something stands apart by two spaces or more."""
    return sum(bool(_APART.search(line)) for line in text.splitlines()) > 1


def _keep_columns(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Printed tables scroll on a narrow screen, where other lines wrap."""
    for output in doctree.findall(nodes.container):
        if "cell_output" in output["classes"]:
            for block in output.findall(nodes.literal_block):
                if has_columns(block.astext()):
                    block["classes"].append("columns")


def _unfold(writer: Any, node: Folded) -> None:
    writer.body.append(writer.starttag(node, "details", CLASS="admonition"))
    writer.body.append('<summary class="admonition-title">')
    node.children[0].walkabout(writer)
    writer.body.append("</summary>\n")
    for child in node.children[1:]:
        child.walkabout(writer)
    writer.body.append("</details>\n")
    raise nodes.SkipNode


def _sort_sheets(app: Sphinx) -> None:
    """Which style sheets all pages have, before any page asks for one of its own."""
    named = [name for name, _ in app.registry.css_files]
    named += [name if isinstance(name, str) else name[0] for name in app.config.html_css_files]
    own = [name for name in dict.fromkeys(named) if not any(PurePath(name).match(p) for p in (*THEME, *_REPLACED))]
    app.env.own_sheets = own  # type: ignore[attr-defined]


def _lighten(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Leave of styles and scripts what only this page needs; what all pages have is in one file of each.

    A page whose front matter says ``colab: false`` reads files of the repository and is not offered to Colab.
    """
    if str(app.env.metadata.get(pagename, {}).get("colab", True)).lower() == "false":
        buttons = context.get("header_buttons", [])
        context["header_buttons"] = [button for button in buttons if button.get("label") != "launch-buttons"]
    body = context.get("body") or ""
    everywhere = [f"_static/{name}" for name in (*THEME, *_REPLACED, *app.env.own_sheets)]  # type: ignore[attr-defined]
    sheets = context["css_files"]
    context["css_files"] = [s for s in sheets if not any(PurePath(_name(s)).match(p) for p in everywhere)]
    scripts = [s for s in context["script_files"] if not _NEEDLESS.search(_name(s) or str(s.attributes))]
    context["script_files"] = [s for s in scripts if not _name(s) or PurePath(_name(s)).match("live/*")]
    if pagename == "search":  # has no script for itself, and is written whenever a page is
        app.env.own_scripts = [_name(s) for s in scripts if _name(s)]  # type: ignore[attr-defined]
    context["has_first_part"] = FIRST_PART in body
    context["preloaded_fonts"] = [
        font for mark, font in _FONTS.items() if re.search(rf'class="[^"]*\b(?:{mark})\b', body)
    ]


def _name(asset: Any) -> str:
    return str(getattr(asset, "filename", asset) or "").partition("?")[0]


def _finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    _leave_out(site / "_static")
    (site / "genindex.html").unlink(missing_ok=True)  # of a build that still made one
    texts = {page: page.read_text(encoding="utf-8") for page in pages_of(site) if page != site / "index.html"}
    done = {page: finished(text, page.parent) for page, text in texts.items()}
    scripts = [file.read_text(encoding="utf-8") for file in (site / "_static").rglob("*.js")]
    own: list[str] = app.env.own_sheets  # type: ignore[attr-defined]
    last = site / "_static" / SHEET
    known = last.read_text(encoding="utf-8") if last.exists() else ""
    files = {SHEET: bundle(site / "_static", own, names_in(done.values(), scripts), known)}
    if names := getattr(app.env, "own_scripts", None):  # otherwise nothing was written, and nothing is new
        files[SCRIPT] = _script(site, names)
    marks = {name: f"{name}?v={hashlib.sha256(text.encode()).hexdigest()[:8]}" for name, text in files.items()}
    for name, text in files.items():
        _write(site / "_static" / name, text)
    for page, text in done.items():
        for name, mark in marks.items():
            text = re.sub(rf"{re.escape(name)}\?v=\w*", mark, text)
        _write(page, text)
    root = app.builder.get_target_uri(app.config.root_doc)
    if root != "index.html":  # the site's address shows its first page, without a detour
        _write(site / "index.html", moved((site / root).read_text(encoding="utf-8"), posixpath.dirname(root)))


def _leave_out(static: Path) -> None:
    for file in [file for pattern in (*_UNUSED, *_REPLACED) for file in static.glob(pattern)]:
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)


def _script(site: Path, names: Iterable[str]) -> str:
    """The one script of all pages."""
    texts = {name: (site / name).read_text(encoding="utf-8") for name in names}
    (theme,) = (name for name in texts if name.endswith(_THEME_SCRIPT))
    texts[theme], found = _MEASURES.subn("[]", texts[theme])
    if not found:
        raise ExtensionError(f"{theme} no longer measures code as it did; look at what it does now, and at _MEASURES")
    return "\n;\n".join(texts.values())


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
