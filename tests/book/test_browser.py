"""The site in a real browser whose network is cut off: complete, quiet, and within the width of the screen."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator

import pytest
from built import KEYS, NOTEBOOKS
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = ["intro", "notation", "ledger", "references", *NOTEBOOKS]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="NO BROWSER: the pages were NOT looked at; install one (Debian: apt-get install chromium) and run again",
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    offline = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*offline, "--disable-component-update"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def tab(request, browser) -> Iterator[Page]:
    width, theme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    page.problems = []
    page.on(
        "request", lambda r: None if r.url.startswith(("http://127.0.0.1", "data:")) else page.problems.append(r.url)
    )
    page.on("requestfailed", lambda r: page.problems.append(f"failed: {r.url}"))
    page.on("response", lambda r: page.problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    yield page
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_complete_and_quiet_without_a_network(tab, address, name):
    tab.goto(f"{address}/book/{name}.html", wait_until="networkidle")
    assert tab.problems == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth && i.offsetParent).map(i => i.src)"
    assert tab.evaluate(broken) == []
    assert tab.evaluate("document.fonts.status") == "loaded"
    if name in KEYS:
        assert tab.locator(".katex").count() > 20
        assert tab.evaluate("document.fonts.check('16px KaTeX_Main')")
        assert tab.locator("figure img").count() > 2
        assert tab.locator("button.copybtn").count() > 5


def test_the_theme_can_be_switched_and_has_its_icons(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.goto(f"{address}/book/intro.html", wait_until="networkidle")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.locator("svg.svg-inline--fa:visible, i.fa-solid:visible").count() > 2
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    context.close()


def test_search_finds_a_chapter(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/search.html?q=attention", wait_until="networkidle")
    page.wait_for_selector("#search-results li a")
    assert "book/" in page.locator("#search-results li a").first.get_attribute("href")
    context.close()


def test_the_zoo_is_sorted_by_a_click_and_by_the_keyboard(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/book/zoo.html")
    head = page.locator(".sortable thead th", has_text="parameters")
    shown = page.locator(".sortable tbody tr td:nth-child(2)")
    counts = lambda: [int(text.replace(",", "")) for text in shown.all_inner_texts()]  # noqa: E731
    first = counts()
    assert first != sorted(first, reverse=True)
    head.get_by_role("button").click()
    assert counts() == sorted(first, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").press("Enter")
    assert counts() == sorted(first)
    assert head.get_attribute("aria-sort") == "ascending"
    accuracy = page.locator(".sortable thead th", has_text="alone")
    accuracy.get_by_role("button").press("Space")
    assert head.get_attribute("aria-sort") is None
    cells = page.locator(".sortable tbody tr td:nth-child(6)").all_inner_texts()
    known = [float(text) for text in cells if text != "–"]
    assert known == sorted(known, reverse=True)
    assert cells[len(known) :] == ["–"] * (len(cells) - len(known)), "what is not known comes last"
    page.locator(".sortable tbody tr a", has_text="swin:swin_t").first.click()
    assert page.url.endswith("/book/swin.html")
    page.close()
