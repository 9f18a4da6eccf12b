"""The site in a real browser whose network is cut off: complete, quiet, within the width of the screen, open to all."""

import pytest
from executed.dress import has_columns

from tests.book.built import KEYS, LEAST, PAGES, form_of, page_of
from tests.book.visiting import awake, barriers, jumps, quiet, shift, visit, whole

SHIFT = 0.02  # how far things may jump while a page is loaded, as browsers reckon it
PART = {"book/pages/api": "#papers-swin"}  # a long page that repeats one form: what of it is searched for barriers


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_complete_and_quiet_without_a_network_and_has_no_barrier(tab, address, name):
    visit(jumps(tab), f"{address}/{name}.html")
    assert shift(tab) < SHIFT
    awake(tab)  # lays out what is further down, which may ask for more fonts
    tab.wait_for_function("document.fonts.status === 'loaded'")
    assert tab.problems == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    cut = "document.querySelectorAll('div.math > .rows')].filter(f => f.offsetParent && f.scrollWidth > f.clientWidth)"
    assert tab.evaluate(f"[...{cut}.map(f => f.closest('.math').id || f.textContent)") == []
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth && i.offsetParent).map(i => i.src)"
    assert tab.evaluate(broken) == []
    if (key := name.rpartition("/")[2]) in KEYS:
        assert tab.locator(".katex").count() >= LEAST[form_of(key)]["formulas"]
        assert tab.evaluate("document.fonts.check('16px KaTeX_Main')")
        assert tab.locator("figure").count() > 1  # the drawing, and one of tensors
        assert tab.locator("button.copybtn").count() > 5
    assert barriers(tab, PART.get(name, "html")) == []


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1280, "dark")])
@pytest.mark.parametrize("name", ["search", "404", *(f"slides/{key}" for key in KEYS)])
def test_what_surrounds_the_chapters_is_quiet_and_has_no_barrier(browser, address, name, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = quiet(context.new_page())
    visit(page, f"{address}/{name}.html")
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert barriers(page) == []
    context.close()


def test_a_barrier_that_is_there_is_found(browser, address):
    page = browser.new_page()
    visit(page, f"{address}/{page_of('why_attention')}.html")
    page.evaluate("document.querySelector('article').insertAdjacentHTML('beforeend', '<img src=\"x.png\">')")
    page.add_style_tag(content="pre .pale { color: #f0f0f0 !important; } pre.dim { opacity: 0.3; }")
    page.evaluate(
        """() => { const [dim, pale] = [...document.querySelectorAll(".cell_input pre")].slice(-2);
          dim.classList.add("dim");
          const words = [...pale.querySelectorAll("span")].filter((word) => word.textContent.trim());
          words.at(-1).classList.add("pale"); }"""
    )
    found = barriers(page)
    assert any(line.startswith("image-alt") for line in found)
    assert any(line.startswith("color-contrast") and ".pale" in line for line in found), "one word of all the code"
    assert any(line.startswith("color-contrast") and ".pale" not in line for line in found), "one block of all"
    page.close()


def test_what_jumps_is_found(browser, address):
    page = jumps(browser.new_page(viewport={"width": 390, "height": 900}))
    page.add_init_script(
        """addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(() =>
          document.querySelector("article").insertAdjacentHTML("afterbegin", "<p style='height: 300px'></p>"))))"""
    )
    visit(page, f"{address}/book/pages/intro.html")
    assert shift(page) > SHIFT
    page.close()


def test_the_theme_can_be_switched_and_has_its_icons(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    visit(page, f"{address}/book/pages/intro.html")
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
    visit(page, f"{address}/search.html?q=attention")
    page.wait_for_selector("#search-results li a")
    assert "book/" in page.locator("#search-results li a").first.get_attribute("href")
    context.close()


def test_the_zoo_is_sorted_by_a_click_and_by_the_keyboard(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/book/pages/zoo.html")
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
    assert page.url.endswith("/book/chapters/swin.html")
    page.close()


def test_nothing_is_drawn_before_a_slow_machine_has_read_what_the_screen_shows(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = jumps(context.new_page())
    context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 6})
    visit(page, f"{address}/book/pages/notation.html")  # opens with a table, whose columns widen with its rows
    assert shift(page) < SHIFT / 10
    context.close()


def test_a_printed_table_has_two_lines_with_columns():
    assert has_columns("name  size\nviT   5\n")
    assert not has_columns("one line  with a gap\nand a sentence")
    assert not has_columns("  indented\n  twice")


def test_on_a_phone_a_printed_table_scrolls_and_a_sentence_wraps(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 900})
    page = context.new_page()
    visit(page, f"{address}/{page_of('cait')}.html")
    wide = "(box) => box.scrollWidth > box.clientWidth"
    tables = whole(page).locator(".cell_output .columns pre")
    assert any(table.evaluate(wide) and table.evaluate("(box) => box.tabIndex === 0") for table in tables.all())
    assert not any(text.evaluate(wide) for text in page.locator(".cell_output :not(.columns) > .highlight > pre").all())
    context.close()
