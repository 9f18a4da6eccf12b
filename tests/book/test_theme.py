"""What a reader does with the theme: open menus and drawers, search, copy, unfold; with the mouse and with the keys."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.book.visiting import visit


@pytest.fixture
def wide(browser, address) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit(page, f"{address}/book/chapters/vit.html")
    yield page
    page.close()


@pytest.fixture
def phone(browser, address) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    visit(page, f"{address}/book/chapters/vit.html")
    yield page
    page.close()


def test_the_menus_open_by_click_and_by_key_and_close_again(wide):
    for name, item in (("Launch interactive content", "Binder"), ("Download this page", ".ipynb")):
        button = wide.get_by_role("button", name=name)
        entry = wide.locator(".dropdown-menu a", has_text=item)
        button.click()
        assert button.get_attribute("aria-expanded") == "true"
        box = entry.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1280
        wide.keyboard.press("Tab")
        assert entry.evaluate("a => a === document.activeElement")
        wide.keyboard.press("Escape")
        assert button.get_attribute("aria-expanded") == "false"
        button.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        wide.locator("article h1").click(position={"x": 5, "y": 5})
        assert button.get_attribute("aria-expanded") == "false"


def test_a_menu_stays_on_the_screen_of_a_phone(phone):
    phone.get_by_role("button", name="Launch interactive content").click()
    box = phone.locator(".dropdown-menu a", has_text="Colab").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_the_drawers_open_on_a_phone_and_close_by_escape(phone):
    for button, drawer, inside in (
        (".primary-toggle", "#pst-primary-sidebar-modal", "a:has-text('Swin')"),
        (".secondary-toggle", "#pst-secondary-sidebar-modal", "a:has-text('Exercises')"),
    ):
        phone.locator(f"{button}:visible").click()
        assert phone.locator(f"{drawer} {inside}").first.is_visible()
        phone.keyboard.press("Escape")
        phone.locator(drawer).wait_for(state="hidden")


def test_the_sidebar_can_be_put_away_on_a_wide_screen(wide):
    wide.locator(".primary-toggle:visible").click()
    wide.wait_for_function("getComputedStyle(document.querySelector('#pst-primary-sidebar')).visibility === 'hidden'")
    wide.locator(".primary-toggle:visible").click()
    wide.wait_for_function("getComputedStyle(document.querySelector('#pst-primary-sidebar')).visibility === 'visible'")


def test_the_keys_open_the_search_and_it_finds(wide):
    wide.keyboard.press("Control+k")
    assert wide.locator("#pst-search-dialog").is_visible()
    wide.keyboard.type("attention")
    wide.keyboard.press("Enter")
    wide.wait_for_selector("#search-results li a")


def test_a_solution_unfolds_by_click_and_by_key_without_any_script(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/book/chapters/vit.html")
    solution = page.locator("details.admonition").first
    inside = solution.locator("p").last
    assert not inside.is_visible()
    solution.locator("summary").click()
    assert inside.is_visible()
    solution.locator("summary").press("Enter")
    assert not inside.is_visible()
    context.close()


def test_code_can_be_copied(browser, address):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    visit(page, f"{address}/book/chapters/vit.html")
    cell = page.locator(".cell_input:visible").first  # imports are folded
    cell.hover()
    cell.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.split()[:2] == cell.locator("pre").inner_text().split()[:2]
    context.close()


def test_the_chosen_colours_stay_on_the_next_page(wide, address):
    while wide.evaluate("document.documentElement.dataset.theme") != "dark":
        wide.locator("button.theme-switch-button:visible").click()
    wide.goto(f"{address}/book/pages/intro.html")
    assert wide.evaluate("document.documentElement.dataset.theme") == "dark"
