"""The built site, read as files: complete, alive in its links, and silent towards third parties."""

import html
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from attention_notes.claims import claims, keys
from tests.book.built import KEYS, NOTEBOOKS, PAGES, ROOT, page_of

# What a browser fetches by itself, as opposed to what a reader may follow.
FETCHES = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}


class Page(HTMLParser):
    """The links, anchors and fetched files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        canonical = tag == "link" and given.get("rel") in ("canonical", "next", "prev", "search", "index")
        if tag in FETCHES and given.get(FETCHES[tag]) and not canonical:
            self.fetched.append(given[FETCHES[tag]])


@cache
def page(path: Path) -> Page:
    return Page(path)


@pytest.fixture
def pages(site) -> list[Path]:
    return sorted(p for p in site.rglob("*.html") if "_static" not in p.parts)


def test_every_chapter_has_its_page(site):
    assert [name for name in PAGES if not (site / f"{name}.html").exists()] == []
    assert {page_of(name) for name in NOTEBOOKS} <= {*PAGES}


def test_no_page_fetches_anything_from_a_third_party(pages):
    abroad = {(p.name, f) for p in pages for f in page(p).fetched if re.match(r"(https?:)?//", f)}
    assert abroad == set()


def test_styles_and_scripts_name_no_host_to_fetch_from(site):
    hosts = re.compile(r"""(?:url\(|@import|fetch\(|src\s*[=:]\s*)\s*['"]?(?:https?:)?//([\w.-]+\.\w+)""")
    found = {
        (file.name, host)
        for file in site.rglob("*")
        if file.suffix in {".css", ".js", ".html"}
        for host in hosts.findall(file.read_text(encoding="utf-8", errors="ignore"))
    }
    assert found == set()


def test_formulas_were_rendered_when_the_site_was_built(pages, site):
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "katex-error" not in text, path.name
        assert not re.search(r"<script[^>]*mathjax", text, flags=re.IGNORECASE), path.name
    for key in KEYS:
        assert 'class="katex"' in (site / f"{page_of(key)}.html").read_text(encoding="utf-8")


def test_chapters_have_the_live_figures_that_they_promise(site):
    inspected = ("transformer", "vit", "deit", "pvt", "non_local")
    also = {"transformer": {"softmax"}, "vit": {"draw"}}
    promised = {key: {"inspector"} | also.get(key, set()) for key in inspected}
    promised |= {"swin": {"sees", "windows"}, "intro": {"sees"}}
    for key, kinds in promised.items():
        text = (site / f"{page_of(key)}.html").read_text(encoding="utf-8")
        assert kinds <= {*re.findall(r'<figure class="live" data-live="(\w+)"', text)}, key
        assert "data-live-source" not in text, "scripts are files of their own"
        assert "_static/live/components.js" in text, key


def test_every_picture_says_what_it_shows(pages):
    silent = [(path.name, image.get("src")) for path in pages for image in page(path).images if not image.get("alt")]
    assert silent == []


def test_every_statement_is_in_the_ledger_with_a_link_to_its_answer(site):
    ledger = page(site / "book/pages/ledger.html")
    for key in [key for key in keys() if claims(key)]:
        answers = page(site / f"{page_of(key)}.html").ids
        for claim in claims(key).values():
            assert f"claim-{claim.id}" in answers, claim.id
            assert (f"ledger-{claim.id}" in ledger.ids) != claim.own, claim.id
            if not claim.own:
                assert any(link.endswith(f"{key}.html#claim-{claim.id}") for link in ledger.links), claim.id


def test_a_chapter_ends_with_every_statement_and_the_words_of_its_source(site):
    for key in KEYS:
        text = (site / f"{page_of(key)}.html").read_text(encoding="utf-8")
        box = re.search(r'(?s)<details class="[^"]*statements.*?</details>', text)[0]
        listed = [claim for claim in claims(key).values() if not claim.own]
        assert box.count('<p class="verdict') == len(listed)
        assert [claim.id for claim in listed if f"#claim-{claim.id}" not in box] == []
        plain = lambda words: re.sub(r"[\W_]", "", words)  # noqa: E731
        said = plain(html.unescape(re.sub(r"<[^>]+>", "", box)))
        quoted = [claim for claim in listed if claim.quote and not re.search(r"\$|\]\(", claim.quote)]
        assert [claim.id for claim in quoted if plain(claim.quote) not in said] == []


def test_every_chapter_opens_in_colab_and_on_binder(site):
    of_records = [name for name in NOTEBOOKS if "colab: false" in (ROOT / f"{page_of(name)}.md").read_text("utf-8")]
    assert of_records == ["performance", "study"], "what reads records, which are not installed"
    for key in [name for name in NOTEBOOKS if name not in of_records]:
        links = page(site / f"{page_of(key)}.html").links
        assert any(re.search(rf"colab\.research\.google\.com/.*/{page_of(key)}\.ipynb$", link) for link in links), key
        assert any(re.search(rf"mybinder\.org/v2/gh/.*{page_of(key)}\.ipynb$", unquote(link)) for link in links), key
    for name in of_records:
        assert "colab.research.google.com" not in (site / f"{page_of(name)}.html").read_text(encoding="utf-8")
    needed = (ROOT / "binder/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert ".[book]" in needed, "the package from the repository, with what its notebooks need"


def test_the_search_index_knows_the_chapters(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    names = json.loads(re.search(r'"docnames":\s*(\[.*?\])', index)[1])
    assert {page_of(key) for key in KEYS} <= set(names)


def test_the_site_speaks_of_the_book_alone(pages):
    assert [p.name for p in pages if str(ROOT) in p.read_text(encoding="utf-8")] == []
