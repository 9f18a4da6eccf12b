"""The book, built once for all tests that look at it, served as the web will serve it, and a browser to look with."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Page

from tests.book.built import BASE, ROOT, jupyter_book
from tests.book.visiting import CHROMIUM, NO_BROWSER, browsing, quiet, serving

collect_ignore = ["throwaway"]  # the tests of a paper that is added to a copy of the house
LONG = ("test_rebuild.py", "test_new_paper.py", "test_notebooks.py", "test_comfort.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with long tests come first, so that at the end no process waits for another."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def site(tmp_path_factory, testrun_uid) -> Path:
    """The built site, brought up to date by the first process that asks, unless whoever calls says that it is."""
    if os.environ.get("BUILT"):
        return ROOT / "_build/html"
    done = tmp_path_factory.getbasetemp().parent / f"built-{testrun_uid}"
    with FileLock(f"{done}.lock"):
        if not done.exists():
            build = jupyter_book(ROOT)
            assert build.returncode == 0, build.stdout[-3000:] + build.stderr[-3000:]
            done.touch()
    return ROOT / "_build/html"


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    """Where the site is served, below the path that it will have."""
    with serving(site, BASE.path) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser whose network is cut off."""
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    with browsing() as browser:
        yield browser


@pytest.fixture(params=[(1280, "dark"), (390, "light")], ids=lambda p: f"{p[0]}-{p[1]}")
def tab(request, browser) -> Iterator[Page]:
    """A page in one of two opposite looks, wide and dark or narrow and light, that notes what goes wrong."""
    width, theme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    yield quiet(context.new_page())
    context.close()


def pytest_terminal_summary(terminalreporter) -> None:
    """Nobody should overlook that the pages were not looked at."""
    if CHROMIUM is None:
        terminalreporter.section("NO BROWSER", red=True, bold=True)
        terminalreporter.line(NO_BROWSER, red=True)
