"""The walks through modules, in a browser: three columns side by side, one below the other on a phone."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.book.built import NOTEBOOKS, page_of
from tests.book.visiting import visit, whole

CELLS = """[...document.querySelectorAll(".walk tbody tr")].map(row => [...row.cells].map(cell => {
  const {left, right, top, bottom, height} = cell.getBoundingClientRect();
  const label = getComputedStyle(cell, "::before").content;
  const formulas = cell.querySelectorAll(".katex").length;
  const spills = cell.scrollWidth - cell.clientWidth;
  return {left, right, top, bottom, height, label, formulas, spills, text: cell.innerText.trim()};
}))"""


@pytest.fixture(scope="module")
def walks(site: Path) -> list[str]:
    """The chapters that walk through a module."""
    texts = {name: (site / f"{page_of(name)}.html").read_text(encoding="utf-8") for name in NOTEBOOKS}
    pages = [name for name, text in texts.items() if 'class="walk"' in text]
    assert pages, "no chapter walks through a module"
    return pages


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(color_scheme="dark")
    yield context.new_page()
    context.close()


def look(page: Page, name: str, *, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.getAnimations().forEach((moving) => moving.finish())")  # what slides in with the width
    assert whole(page).evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"


def rows(page: Page) -> list[list[dict[str, Any]]]:
    found = page.evaluate(CELLS)
    assert found
    assert {len(row) for row in found} == {3}
    return found


def test_the_columns_stand_side_by_side_and_on_a_phone_are_stacked_and_labelled(page, address, walks):
    for name in walks:
        page.set_viewport_size({"width": 1280, "height": 900})
        visit(page, f"{address}/{page_of(name)}.html")
        look(page, name, width=1280)
        side_by_side(page, name)
        look(page, name, width=390)
        stacked(page, name)


def side_by_side(page: Page, name: str) -> None:
    """What the columns hold stays inside them, and they stay inside the page."""
    found = rows(page)
    assert any(row[0]["formulas"] for row in found), name
    assert [row[0]["text"] for row in found if row[0]["text"] and not row[0]["formulas"]] == []
    assert [row for row in found if any("$" in cell["text"] or "`" in cell["text"] for cell in row)] == []
    assert any(" = " in row[2]["text"] for row in found), name
    article = page.locator("article").first.bounding_box()
    for row in found:
        equation, code, shape = row
        assert equation["top"] == code["top"] == shape["top"]
        assert article["x"] - 1 <= equation["left"]
        assert equation["right"] <= code["left"] + 1
        assert code["right"] <= shape["left"] + 1
        assert shape["right"] <= article["x"] + article["width"] + 1
        assert [cell["text"] for cell in row if cell["spills"] > 1] == [], name
        assert [cell["label"] for cell in row] == ["none"] * 3


def stacked(page: Page, name: str) -> None:
    for row in rows(page):
        shown = [cell for cell in row if cell["height"]]
        assert [cell["label"] for cell in shown] == [
            f'"{label}"' for label, cell in zip(("equation", "code", "shape"), row, strict=True) if cell["text"]
        ]
        assert len({cell["left"] for cell in shown}) == 1
        for above, below in pairwise(shown):
            assert above["bottom"] <= below["top"] + 1
        assert [cell["text"] for cell in shown if cell["spills"] > 1] == [], name
