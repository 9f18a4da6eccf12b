"""A server that serves the built site as the web will, below its base path, and a browser whose network is cut off."""

import gzip
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "The pages were NOT looked at: install a browser (Debian: apt-get install chromium) and run again."
AXE = Path(__file__).with_name("axe.min.js")  # axe-core 4, MPL-2.0, as its head says
_OFFLINE = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_TEXT = {".html", ".css", ".js", ".svg", ".json", ".xml"}


class Pages(http.server.SimpleHTTPRequestHandler):
    """What a host of static pages does: compressed text, and its own page for an address that leads nowhere."""

    site: Path
    base = "/"
    protocol_version = "HTTP/1.1"  # one connection for many files

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        file = self.site / path.removeprefix(self.base) if path.startswith(self.base) else None
        if file and file.is_dir():
            file = file / "index.html"
        found = file is not None and file.is_file()
        file = file if found else self.site / "404.html"
        packed = file.suffix in _TEXT
        content = _content(file, file.stat().st_mtime_ns, packed=packed) if file.is_file() else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", self.guess_type(file))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@lru_cache(64)  # many pages ask for the same scripts, and packing them takes longer than all the rest
def _content(file: Path, changed: int, *, packed: bool) -> bytes:
    content = file.read_bytes()
    return gzip.compress(content) if packed else content


@contextmanager
def serving(site: Path, base: str = "/", port: int = 0) -> Iterator[str]:
    """The address of the site while it is served; ``base`` is the path below which it lies, as ``/book/``."""
    handler = type("Handler", (Pages,), {"site": site, "base": base})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{base.rstrip('/')}"
    finally:
        server.shutdown()


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser that reaches this machine and nothing else."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_OFFLINE])
        yield browser
        browser.close()


def quiet(page: Page) -> Page:
    """The page, which from now on keeps in ``page.problems`` what a reader's console would complain of."""
    page.problems = []
    at_home = ("http://127.0.0.1", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(at_home) else page.problems.append(r.url))
    page.on("requestfailed", lambda r: page.problems.append(f"failed: {r.url}"))
    page.on("response", lambda r: page.problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    return page


def visit(page: Page, address: str) -> Response | None:
    """Go to an address and wait until its scripts ran, its fonts are there and it was drawn once."""
    answer = page.goto(address)
    page.evaluate("document.fonts.ready.then(() => new Promise((go) => requestAnimationFrame(() => setTimeout(go))))")
    return answer


def jumps(page: Page) -> Page:
    """The page, which from its next address on adds up in ``window.shift`` how far things move while it is loaded."""
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((e) => { window.shift += e.value; }))
          .observe({ type: "layout-shift", buffered: true });"""
    )
    return page


def shift(page: Page) -> float:
    """How far things moved, as browsers reckon it, once nothing is left to do."""
    page.evaluate("new Promise((go) => requestAnimationFrame(() => requestIdleCallback(go)))")
    return page.evaluate("shift")


def whole(page: Page) -> Page:
    """The page with all its sections laid out, as when one has scrolled past them."""
    page.evaluate("document.documentElement.dataset.whole = ''")
    return page


def awake(page: Page) -> Page:
    """The page with all its live figures built, as when one has scrolled past them slowly."""
    for figure in whole(page).locator("figure.live").all():
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-ready", "")
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    return page


UNFOLD = """() => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  document.getAnimations().forEach((moving) => moving.finish()); // what fades in is pale
}"""
SHOW_ONCE = """() => {
  const repeated = [...document.querySelectorAll("pre")].flatMap((block) => {
    const seen = new Set();
    return [...block.querySelectorAll("span")].filter((word) => {
      const style = getComputedStyle(word);
      const names = ["color", "backgroundColor", "backgroundImage", "opacity", "fontSize", "fontWeight", "visibility"];
      const look = names.map((name) => style[name]).join();
      const plain = !word.childElementCount && word.getAttributeNames().every((name) => name === "class");
      if (plain && seen.has(look)) return true;
      if (word.textContent.trim() && word.checkVisibility()) seen.add(look);
      return false;
    });
  });
  repeated.forEach((word) => word.replaceWith(word.textContent));
}"""


def barriers(page: Page, within: str = "html") -> list[str]:
    """What axe-core finds, one line for each rule and place, with everything unfolded.

    A third of a page's elements are words of code in spans that have nothing but a class. Of those of one block that
    look the same one is examined, and the others are made plain text.
    """
    page.evaluate(UNFOLD)
    page.evaluate(SHOW_ONCE)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        """async (within) => (await axe.run(within, { resultTypes: ["violations"] })).violations.flatMap((rule) =>
          rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`))""",
        within,
    )
    return list(found)
