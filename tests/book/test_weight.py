"""What a page asks of a reader's line before it is there, where its addresses lead, and what it tells who shares it."""

import gzip
import re
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from tests.book.built import BASE, KEYS, PAGES, page_of
from tests.book.visiting import visit

LIMIT = 250 * 1024  # bytes of script and style over the wire, before a reader touches an interactive figure
NOT_LISTED = ["search", "404", "index"]


def text(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


def asked_for(site: Path, name: str) -> list[Path]:
    """The scripts and style sheets that a page names."""
    page = re.sub(r"<!--.*?-->", "", text(site, name), flags=re.DOTALL)
    scripts = re.findall(r'<script\b[^>]*\bsrc="([^"]+)"', page)
    sheets = [re.search(r'href="([^"]+)"', tag)[1] for tag in re.findall(r"<link\b[^>]*stylesheet[^>]*>", page)]
    folder = site if name == "404" else (site / name).parent
    return [(folder / file.partition("?")[0].removeprefix(BASE.path)).resolve() for file in (*scripts, *sheets)]


def canonical(site: Path, name: str) -> str:
    return re.search(r'<link rel="canonical" href="([^"]+)"', text(site, name))[1]


def told(site: Path, name: str) -> dict[str, str]:
    """The description of a page and what is said of it where it is shared."""
    pairs = re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)"', text(site, name))
    return {key: unescape(value) for key, value in pairs}


@pytest.mark.parametrize("name", [*PAGES, *NOT_LISTED])
def test_a_page_asks_for_little_script_and_style(site, name):
    inline = re.findall(r"<(?:script|style)\b[^>]*>([^<]*(?:<(?!/(?:script|style))[^<]*)*)</", text(site, name))
    weights = {file.name: len(gzip.compress(file.read_bytes())) for file in asked_for(site, name)}
    whole = sum(weights.values()) + len(gzip.compress("".join(inline).encode()))
    assert whole <= LIMIT, weights


@pytest.mark.parametrize("name", [*PAGES, *NOT_LISTED])
def test_no_script_stands_between_a_reader_and_the_text(site, name):
    late = r"\b(?:defer|async)\b|type=\"module\""
    tags = re.findall(r'<script\b[^>]*\bsrc="[^"]*"[^>]*>', text(site, name))
    assert [tag for tag in tags if not re.search(late, tag)] == []
    names = {file.name for file in asked_for(site, name) if file.suffix == ".js"}
    live = {"components.js"} if 'class="live"' in text(site, name) else set()
    search = {"language_data.js", "searchtools.js", "searchindex.js"} if name == "search" else set()
    assert names == {"dressed.js"} | live | search, "one script for all pages, and what is used only here"
    assert len([file for file in asked_for(site, name) if file.suffix == ".css"]) == 1, "one sheet for all pages"


@pytest.mark.parametrize("name", [*PAGES, *NOT_LISTED])
def test_every_picture_keeps_its_room(site, name):
    tags = re.findall(r"<img\b[^>]*>", text(site, name))
    assert [tag[:200] for tag in tags if not re.search(r'\bwidth="\d+" height="\d+"', tag)] == []


@pytest.mark.parametrize("name", [*PAGES, *NOT_LISTED])
def test_every_icon_is_drawn_when_the_site_is_built(site, name):
    assert re.findall(r'<(?:i|span) class="[^"]*\bfa-[^"]*"', text(site, name)) == []


@pytest.mark.parametrize("name", [*PAGES, *NOT_LISTED])
def test_a_page_has_no_more_elements_than_a_phone_lays_out_at_once(site, name):
    """A page of 78,000 had 77 for performance in Lighthouse."""
    assert len(re.findall(r"<[a-z]", text(site, name))) <= 25_000


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is_about(site, name):
    said = told(site, name)
    assert 40 <= len(said["description"]) <= 160
    assert said["og:description"] == said["description"]
    assert not re.search(r"\(cited\)|\[\w[^\]]*\d{4}\]|\$|\s[.,;]|<", said["description"]), said["description"]
    assert said["og:url"] == canonical(site, name)
    assert canonical(site, name).endswith(f"/{name}.html")
    assert {"og:title", "og:type", "og:site_name", "og:image:alt", "twitter:card"} <= set(said)


def test_no_two_pages_say_the_same(site):
    said = [told(site, name)["description"] for name in PAGES]
    assert sorted(said) == sorted(set(said))


@pytest.mark.parametrize("name", PAGES)
def test_the_card_of_a_page_is_the_book_s_own_picture(site, name):
    base = canonical(site, name).removesuffix(f"{name}.html")
    card = told(site, name)["og:image"]
    assert card.startswith(base)
    assert Image.open(site / card.removeprefix(base)).size == (1200, 630)


def test_the_site_s_address_shows_the_first_page_without_a_detour(site):
    assert "http-equiv" not in text(site, "index")
    assert canonical(site, "index") == canonical(site, "book/pages/intro")
    words = lambda name: re.sub(r"<[^>]+>", "", text(site, name)).split()  # noqa: E731
    assert words("index") == words("book/pages/intro")


def test_the_sitemap_lists_every_page_and_no_other(site):
    places = ElementTree.parse(site / "sitemap.xml").getroot().iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")
    assert [place.text for place in places] == sorted(canonical(site, name) for name in PAGES)


def test_search_engines_may_list_the_pages_but_not_the_one_that_says_nothing_is_here(site):
    barred = [name for name in [*PAGES, *NOT_LISTED] if "noindex" in told(site, name).get("robots", "")]
    assert barred == ["404"]


def test_a_slip_in_a_deep_address_leads_to_a_page_that_helps(address, browser):
    page = browser.new_page()
    failed: list[str] = []
    page.on("response", lambda r: failed.append(r.url) if r.status >= 400 and "slip" not in r.url else None)
    assert page.goto(f"{address}/book/deep/deeper/slip.html", wait_until="networkidle").status == 404
    assert failed == []
    assert page.locator("h1").inner_text().startswith("Nothing is here")
    page.locator("article a", has_text="first page").click()
    assert page.url == f"{address}/book/pages/intro.html"
    page.close()


FAR = """[...document.querySelectorAll('.bd-article > section > section')].at(-1)
  .querySelector('h2').checkVisibility({ contentVisibilityAuto: true })"""


def test_what_is_far_away_is_laid_out_when_it_is_asked_for(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    laid_out = lambda: page.evaluate(FAR)  # noqa: E731
    page.goto(f"{address}/book/chapters/vit.html", wait_until="networkidle")
    assert not laid_out()
    page.keyboard.press("Shift")
    assert laid_out(), "keys lead anywhere"
    page.goto(f"{address}/book/chapters/dnl.html", wait_until="networkidle")
    assert not laid_out()
    page.reload(wait_until="networkidle")
    assert laid_out(), "who comes back finds his place"
    page.goto(f"{address}/book/chapters/swin.html#version-2", wait_until="networkidle")
    assert laid_out(), "so does who comes to an address"
    page.close()


@pytest.mark.parametrize("name", [page_of(key) for key in KEYS])
def test_an_address_leads_to_its_place(browser, address, site, name):
    ids = re.findall(r'<(?:section|p|div|figure)\b[^>]* id="([^"]+)"', text(site, name))
    within = [found for found in ids if found.startswith(("claim-", "equation-", "fig-"))]
    page = browser.new_page(viewport={"width": 390, "height": 900}, reduced_motion="reduce")
    place = within[-1]
    top = f"document.getElementById('{place}').getBoundingClientRect().top"
    visit(page, f"{address}/{name}.html#{place}")
    assert 0 <= page.evaluate(top) < 600, f"{place}, come from elsewhere"
    page.goto("about:blank")
    visit(page, f"{address}/{name}.html")
    page.evaluate(f"location.hash = '{place}'")
    page.wait_for_timeout(300)
    assert 0 <= page.evaluate(top) < 600, f"{place}, come from above"
    page.close()


def test_a_dark_page_is_dark_before_any_script_has_come(browser, address):
    context = browser.new_context(color_scheme="dark")
    context.route("**/*.js*", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{address}/book/pages/intro.html")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground)[:3])) < 80, ground
    context.close()
