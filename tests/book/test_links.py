"""Addresses of the built site: each names one place, and whatever points to a place finds it."""

import json
import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from attention_notes.claims import claims
from tests.book.built import BASE, KEYS, page_of

# Attributes that hold an address, and those that hold ids of the same page.
ADDRESSES = ("href", "src", "data-address", "poster")
NAMED = ("aria-labelledby", "aria-describedby", "aria-controls", "for", "popovertarget")


class Page(HTMLParser):
    """The ids of a page, and what points somewhere: addresses, and ids named in attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: set[str] = set()
        self.named: set[str] = set()
        self.elements: dict[str, list[str]] = {}
        self.permalinks: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        if "id" in given:
            self.ids.append(given["id"])
        for kind in given.get("class", "").split():
            self.elements.setdefault(kind, []).append(given.get("id", ""))
        self.addresses |= {given[name] for name in ADDRESSES if name in given}
        self.addresses |= {part.split()[0] for part in given.get("srcset", "").split(",") if part.split()}
        self.named |= {name for attribute in NAMED for name in given.get(attribute, "").split()}
        if "headerlink" in given.get("class", ""):
            self.permalinks.add(given["href"].removeprefix("#"))


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def dead_links(path: Path, site: Path) -> set[str]:
    """What a page points to within the site, also by the site's full address, and is not there."""
    dead = set()
    for address in read(path).addresses:
        parts = urlsplit(address)
        whole = next((start for start in (BASE.geturl(), BASE.path) if address.startswith(start)), None)
        if whole:
            target = site.resolve() / unquote(parts.path).removeprefix(BASE.path)
        elif parts.scheme or parts.netloc:
            continue
        else:
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchor = unquote(parts.fragment)
        if target.is_dir():
            target = target / "index.html"
        inside = target.is_relative_to(site.resolve()) and target.is_file()
        if not inside or (anchor and target.suffix == ".html" and anchor not in read(target).ids):
            dead.add(address)
    return dead


@pytest.fixture(scope="module")
def pages(site) -> list[Path]:
    found = sorted(p for p in site.resolve().rglob("*.html") if "_static" not in p.relative_to(site.resolve()).parts)
    assert len(found) > 15
    return found


def test_a_dead_link_a_lost_anchor_and_an_id_given_twice_are_seen(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    (tmp_path / "a.html").write_text(
        '<p id="x"><p id="x"><a href="b.html#here"><a href="b.html#gone"><a href="c.html"><a href="#y">'
        '<a href="https://example.org/#z"><img src="d.png" srcset="e.png 2x"><a href="../b.html">'
        f'<a href="{BASE.geturl()}"><a href="{BASE.geturl()}b.html#here">',
        encoding="utf-8",
    )
    found = dead_links(tmp_path / "a.html", tmp_path)
    assert found == {"b.html#gone", "c.html", "#y", "d.png", "e.png", "../b.html", BASE.geturl()}
    assert Counter(read(tmp_path / "a.html").ids)["x"] == 2


def test_every_anchor_of_a_page_names_one_place(pages):
    twice = {p.name: [i for i, count in Counter(read(p).ids).items() if count > 1] for p in pages}
    assert {name: ids for name, ids in twice.items() if ids} == {}


def test_every_link_within_the_site_leads_somewhere(pages, site):
    dead = {path.name: dead_links(path, site) for path in pages}
    assert {name: links for name, links in dead.items() if links} == {}
    assert sum(len(read(path).addresses) for path in pages) > 1000


def test_what_is_named_for_those_who_listen_is_on_the_page(pages):
    lost = {path.name: read(path).named - {*read(path).ids} for path in pages}
    assert {name: ids for name, ids in lost.items() if ids} == {}


def test_every_displayed_equation_has_an_address_and_shows_it(pages, site):
    for path in (p for p in pages if p.is_relative_to(site.resolve() / "book")):
        blocks = re.findall(r'<div class="[^"]*\bmath\b[^"]*"[^>]*>', path.read_text(encoding="utf-8"))
        silent = [block for block in blocks if ' id="' not in block]
        assert silent == [], path.name
        named = {re.search(r' id="([^"]*)"', block)[1] for block in blocks}
        assert named <= read(path).permalinks, path.name


def test_every_statement_that_is_run_shows_its_address(site):
    for key in KEYS:
        page = read((site / f"{page_of(key)}.html").resolve())
        run = {f"claim-{name}" for name, claim in claims(key).items() if claim.verdict != "cited"}
        assert run <= {*page.ids}, key
        assert run & {*page.elements["verdict"]} <= page.permalinks, key
        alone = run - {f"claim-{name}" for name, claim in claims(key).items() if claim.counts}  # not in a table
        assert len(alone & page.permalinks) > 0.8 * len(alone), key


def test_every_figure_with_a_caption_shows_its_address(site):
    for key in KEYS:
        page = read((site / f"{page_of(key)}.html").resolve())
        figures = {name for name in page.ids if name.startswith(("fig-", "flow-"))}
        assert len(figures) > 1, key
        assert figures <= page.permalinks, key


def test_every_place_that_the_search_leads_to_is_there(site):
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    files = [f"{name}.html" for name in index["docnames"]]
    places = [place[:2] for found in index["indexentries"].values() for place in found]
    places += [place for found in index["alltitles"].values() for place in found]
    known = [read((site / file).resolve()).ids for file in files]
    lost = {(files[n], anchor) for n, anchor in places if anchor and anchor not in known[n]}
    assert lost == set()
    assert len(places) > 300
