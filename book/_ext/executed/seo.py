"""What a page tells those who do not open it: search engines, and people who see a link to it.

Each page has a description and a card; the site has a list of its pages, and a page for addresses that lead nowhere.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from docutils import nodes
from sphinx.application import Sphinx

from .card import SIZE, card
from .dress import moved

LONGEST = 160  # what search engines show of a description
IDEA = "the-idea-in-one-sentence"  # the section whose first sentence tells a chapter best
FALLBACK = "paper notes on attention that run."
_GIVEN = re.compile(r'<meta (?=[^>]*name="description")[^>]*content="([^"]*)"')
# Pages that no source is behind, by their names.
SAID = {
    "search": "Search the book: papers, models, terms and the statements that were run.",
    "404": "This address leads nowhere in the book; here is what does.",
}
LOST = """<section><h1>Nothing is here</h1>
<p>This address leads to no page of the book. It may have been moved, or there is a slip in the link.</p>
<p><a href="{home}">To the first page</a>, or look for it: <a href="search.html">search</a>.</p></section>"""


def setup(app: Sphinx) -> None:
    """Connect to Sphinx; what is written last sees the pages as they are in the end."""
    app.connect("html-collect-pages", _lost)
    app.connect("html-page-context", _tell, priority=940)
    app.connect("build-finished", _finish, priority=960)


def description(doctree: nodes.document) -> str:
    """What the page is about, in at most ``LONGEST`` characters: its idea in one sentence, else how it begins."""
    sections = [section for section in doctree.findall(nodes.section) if IDEA in section["ids"]]
    paragraphs = [p for part in (*sections, doctree) for p in part.findall(nodes.paragraph)]
    for paragraph in paragraphs:
        if not next(iter(paragraph.findall(nodes.math)), None) and len(said := plain(paragraph)) > 40:
            return shortened(said)
    return ""


def plain(paragraph: nodes.paragraph) -> str:
    """The words of a paragraph without its citations and marks."""
    copy = paragraph.deepcopy()
    for mark in [n for n in copy.findall(nodes.inline) if "bibtex-citation" in n["classes"]]:
        if mark.astext().startswith("["):
            mark.parent.remove(mark)
    text = re.sub(r"\s*\(cited\)", "", " ".join(copy.astext().split()))
    return re.sub(r"\s+([.,;:])", r"\1", text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """As many whole sentences as there is room for; where the first is too long, as many words."""
    if len(text) <= longest:
        return text
    ends = [end.end() for end in re.finditer(r"[.?!](?=\s)", text[: longest + 1]) if end.end() >= 60]
    return text[: ends[-1]] if ends else f"{text[: longest - 1].rpartition(' ')[0].rstrip(',;:')} …"


def tags(title: str, said: str, address: str, picture: str, book: str) -> str:
    """The tags of one page; ``address`` and ``picture`` are absolute, as those who read the tags need them."""
    width, height = SIZE
    social = {
        "og:type": "website",
        "og:site_name": book,
        "og:title": title,
        "og:description": said,
        "og:url": address,
        "og:image": picture,
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": f"{book}: {title}. {said}",
    }
    lines = [f'<meta name="description" content="{html.escape(said)}" />']
    lines += [f'<meta property="{name}" content="{html.escape(value)}" />' for name, value in social.items() if value]
    return "\n".join([*lines, '<meta name="twitter:card" content="summary_large_image" />'])


def sitemap(addresses: list[str]) -> str:
    """The list of the pages for search engines (https://www.sitemaps.org/protocol.html)."""
    places = "".join(f"<url><loc>{html.escape(address)}</loc></url>\n" for address in addresses)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{head}{places}</urlset>\n"


def _lost(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    home = app.builder.get_target_uri(app.config.root_doc)
    yield "404", {"title": "Nothing is here", "body": LOST.format(home=home)}, "page.html"


def _tell(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    book, base = app.config.html_title, app.config.html_baseurl
    title = app.env.titles[pagename].astext() if doctree is not None else context.get("title") or "Search"
    metatags = context.get("metatags", "")
    given = _GIVEN.search(metatags)
    said = html.unescape(given[1]) if given else SAID.get(pagename, "")
    said = said or (description(doctree) if doctree is not None else "") or f"{title}: {FALLBACK}"
    name = (pagename.rpartition("/")[2], title, said) if doctree is not None else ("book", "", "")
    picture = f"_static/cards/{card(Path(app.outdir) / '_static/cards', book, *name)}"
    told = tags(title, said, context.get("pageurl") or "", urljoin(base, picture), book)
    context["metatags"] = f"{metatags}\n" + (told.partition("\n")[2] if given else told)
    if pagename == "404":
        context["pageurl"] = None
        context["metatags"] += '\n<meta name="robots" content="noindex" />'


def _finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    site, base = Path(app.outdir), app.config.html_baseurl
    pages = [urljoin(base, app.builder.get_target_uri(name)) for name in sorted(app.env.found_docs)]
    (site / "sitemap.xml").write_text(sitemap(pages), encoding="utf-8")
    lost = site / "404.html"  # it is shown at any address, however deep, so its own addresses are absolute
    lost.write_text(moved(lost.read_text(encoding="utf-8"), urlsplit(base).path or "/"), encoding="utf-8")
