"""Who sees whom, and shifted windows, in a real browser: by mouse and by keyboard, against what was measured."""

import json
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from attention_notes.chapters import data
from attention_notes.chapters.widgets.sees import measure, stacks, who_sees_whom
from attention_notes.chapters.widgets.windows import allowed_pairs, by_colour, shifted_windows, tables_of
from attention_notes.nn.windows import Windows
from tests.book.visiting import awake, barriers, quiet, serving, visit

SIZES = {"side": 6, "window": 3, "blocks": 3}
SIDE = 14
STEPS = ("image", "windows", "roll", "regions", "mask", "attention", "back")
LOOKS = [(1280, "dark"), (390, "light")]
THEME = """
  html { --pst-color-background: #fff; --pst-color-text-base: #222832; --pst-color-text-muted: #48566b;
         --pst-color-surface: #f3f4f5; --pst-color-border: #c9c9c9; --pst-color-primary: #0a7d91; }
  html[data-theme="dark"] { --pst-color-background: #14181e; --pst-color-text-base: #ced6dd;
         --pst-color-text-muted: #9ca4af; --pst-color-surface: #222832; --pst-color-border: #48566b;
         --pst-color-primary: #3fb1c5; }
  body { background: var(--pst-color-background); color: var(--pst-color-text-base); margin: 1rem; }
"""


@cache
def masks():
    return {name: measure(blocks, side=6) for name, blocks in stacks(**SIZES).items()}


@cache
def windows():
    return tuple(Windows((SIDE, SIDE), window=(7, 7), shifted=shift) for shift in (False, True))


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A notebook's outputs on one page, in both themes; one of the figures is there twice."""
    folder = tmp_path_factory.mktemp("pages")
    sees, shifted = who_sees_whom(**SIZES), shifted_windows(data.photograph("china")[:, :, 106:533])
    body = "".join(live._repr_mimebundle_()["text/html"] for live in (sees, shifted, sees))
    for theme in ("light", "dark"):
        (folder / f"{theme}.html").write_text(
            f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>live</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
            f"<style>{THEME}</style></head><body><main><h1>Live</h1>{body}</main></body></html>",
            encoding="utf-8",
        )
    with serving(folder) as address:
        yield address


def opened(browser: Browser, address: str, width: int = 1280, theme: str = "light", **options) -> Page:
    page = quiet(browser.new_context(viewport={"width": width, "height": 900}, **options).new_page())
    if not options.get("java_script_enabled", True):
        page.goto(f"{address}/{theme}.html")
        return page
    visit(page, f"{address}/{theme}.html")
    return awake(page)


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    page = opened(browser, address)
    yield page
    assert page.problems == []
    page.context.close()


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_the_figures_are_quiet_and_fit_the_screen_at_every_step(browser, address, width, theme):
    page = opened(browser, address, width, theme)
    assert page.locator(".live-sees").count() == 2
    for step in STEPS:
        page.get_by_role("button", name=step).click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), step
    assert page.locator("figure.live > img").count() == 0
    assert page.problems == []
    page.context.close()


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_no_step_is_a_barrier(browser, address, width, theme):
    page = opened(browser, address, width, theme)
    for step in ("roll", "regions", "attention"):
        page.get_by_role("button", name=step).click()
        assert barriers(page) == [], step
    page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_seen_stands_out_from_what_is_not(browser, address, theme):
    """At least 3 to 1, as for every graphical object."""
    page = opened(browser, address, 1280, theme)
    colours = page.evaluate("""[".seen", ".ground"].map((name) =>
      getComputedStyle(document.querySelector(`.live-sees ${name}`)).fill.match(/[\\d.]+/g).slice(0, 3).map(Number))""")
    bright, dim = sorted((luminance(colour) for colour in colours), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 3
    page.context.close()


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_scripts_the_still_pictures_stand_with_their_words(browser, address):
    page = opened(browser, address, java_script_enabled=False)
    stills = page.locator("figure.live > img")
    assert stills.count() == 3
    for still in stills.all():
        assert still.is_visible()
        assert len(still.get_attribute("alt")) > 100
    assert page.locator("figure.live svg, figure.live button").count() == 0
    page.context.close()


def maps_of(page: Page):
    return page.locator("figure.live").first


def shown(figure, name: str) -> tuple[str, int]:
    """What stands under a model's map, and the number of cells that are coloured on it."""
    part = figure.locator(f'[data-model="{name}"]')
    path = part.locator("path.seen").get_attribute("d")
    return part.locator("p").last.inner_text(), path.count("M")


def test_the_numbers_shown_are_those_measured_at_every_depth(page):
    figure = maps_of(page)
    cell = json.loads(who_sees_whom(**SIZES).json)["start"]
    depth = figure.get_by_label("After")
    depth.focus()
    depth.press("Home")
    for blocks in range(SIZES["blocks"]):
        for name, mask in masks().items():
            seen = int(mask[blocks, cell].sum())
            words, coloured = shown(figure, name)
            assert words.startswith(f"{seen} of 36 cells, {100 * seen / 36:.0f}\u00a0%")
            assert coloured == seen
            assert ("every cell" in words) == (seen == 36)
        depth.press("ArrowRight")
    assert depth.get_attribute("aria-valuetext") == "3 blocks"


def test_arrow_keys_go_from_cell_to_cell_and_stop_at_the_border(page):
    figure = maps_of(page)
    figure.get_by_label("After").press("Home")
    cell = figure.get_by_role("slider", name="Cell of the map, 3 x 3 convolution")
    cell.focus()
    for key in ("ArrowUp",) * 4 + ("ArrowLeft",) * 9:
        cell.press(key)
    assert cell.get_attribute("aria-valuetext") == "row 1, column 1: 4 of 36 cells, 11\u00a0%: one cell in 9"
    cell.press("ArrowDown")
    cell.press("ArrowRight")
    assert shown(figure, "3 x 3 convolution") == ("9 of 36 cells, 25\u00a0%: one cell in 4", 9)
    expect(figure.get_by_role("status")).to_have_text("Row 2, column 2, after 1 block.")
    assert figure.get_by_role("slider", name="Cell of the map, ViT").get_attribute("aria-valuenow") == "8"


def test_a_click_on_one_map_chooses_the_cell_in_all(page):
    figure = maps_of(page)
    box = figure.locator('[data-model="ViT"] svg').bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5.5 / 6, box["y"] + box["height"] * 2.5 / 6)
    for name, mask in masks().items():
        words, coloured = shown(figure, name)
        seen = mask[1, 2 * 6 + 5]
        assert (words.split()[0], coloured) == (str(int(seen.sum())), int(seen.sum()))
        drawn = figure.locator(f'[data-model="{name}"] path.seen').get_attribute("d")
        assert [f"M{at % 6} {at // 6}h" in drawn for at in range(36)] == seen.tolist()
    expect(figure.get_by_role("status")).to_have_text("Row 3, column 6, after 2 blocks.")


def stepped(page: Page):
    return page.locator('figure.live[data-live="windows"]')


def looked_at(page: Page) -> set[int]:
    """The places of the map that are marked as seen."""
    labels = (
        stepped(page)
        .locator("svg[role=group] rect[role=button]")
        .evaluate_all("rects => rects.map((rect) => rect.getAttribute('aria-label').endsWith('seen'))")
    )
    return {place for place, seen in enumerate(labels) if seen}


def choose(page: Page, place: int) -> None:
    stepped(page).locator("svg[role=group] rect[role=button]").nth(place).click()


@pytest.mark.parametrize("token", [0, 48, 6 * SIDE + 6, 12 * SIDE + 12, 2 * SIDE + 9])
def test_a_token_looks_at_its_real_partners_at_every_step(page, token):
    tables, allowed = tables_of(*windows()), allowed_pairs(windows()[1])
    window, position = ((tables["shifted"] == token).nonzero()[0]).tolist()
    keys = tables["shifted"][window]
    before = set(tables["plain"][(tables["plain"] == token).any(1)][0].tolist())
    admitted = set(keys[allowed[window, position]].tolist())
    place = {token: at for at, token in enumerate(tables["rolled"].tolist())}
    everyone, there = set(range(SIDE * SIDE)), {place[key] for key in admitted}
    expected = [everyone, before, {place[b] for b in before}, {place[k] for k in keys.tolist()}, there, there, admitted]
    choose(page, token)
    for step, seen in zip(STEPS, expected, strict=True):
        page.get_by_role("button", name=step).click()
        assert looked_at(page) == seen, step


def test_the_sentence_and_the_mask_count_what_the_mask_lets_through(page):
    figure, corner = stepped(page), SIDE * SIDE - 1
    choose(page, corner)
    figure.get_by_role("button", name="regions").click()
    expect(figure.get_by_role("status")).to_contain_text("4 pieces of the image that are no neighbours; 16 of its 49")
    expect(figure.get_by_role("img", name="2401 of 2401 pairs.")).to_be_visible()
    figure.get_by_role("button", name="mask").click()
    told = "16 of the 49 keys through; the 33 keys from other regions get minus"
    expect(figure.get_by_role("status")).to_contain_text(told)
    mask = figure.get_by_role("img", name="625 of 2401 pairs are let through.")
    drawn = "".join(path.get_attribute("d") for path in mask.locator("path").all())
    allowed = allowed_pairs(windows()[1])[3]
    assert [f"M{key} {query}h" in drawn for query in range(49) for key in range(49)] == allowed.flatten().tolist()


def test_the_largest_weight_is_the_real_one(page):
    photo = data.photograph("china")[:, :, 106:533]
    small = torch.nn.functional.interpolate(photo[None], size=224, mode="bicubic", antialias=True)[0].clamp(0, 1)
    start = json.loads(shifted_windows(photo).json)["start"]
    window, position = ((tables_of(*windows())["shifted"] == start).nonzero()[0]).tolist()
    largest = 100 * by_colour(small, windows()[1])[window, position].max().item()
    stepped(page).get_by_role("button", name="attention").click()
    said = stepped(page).get_by_role("status")
    expect(said).to_contain_text("The largest weight is")
    assert abs(float(said.inner_text().split("weight is ")[1].removesuffix("\u00a0%.")) - largest) < 1


def test_the_photograph_is_rolled_and_rolled_back(page):
    figure, rolled = stepped(page), tables_of(*windows())["rolled"]
    pixels = """canvas => { const pen = canvas.getContext("2d");
      const middle = (place) => pen.getImageData((place % 14) * 32 + 16, Math.floor(place / 14) * 32 + 16, 1, 1);
      return [...Array(196).keys()].map((place) => [...middle(place).data]); }"""
    seen = {}
    for step in ("image", "roll", "back"):
        figure.get_by_role("button", name=step).click()
        seen[step] = figure.locator("canvas").evaluate(pixels)
    assert len({tuple(colour) for colour in seen["image"]}) > 100
    assert seen["roll"] == [seen["image"][token] for token in rolled]
    assert seen["back"] == seen["image"]


def test_steps_and_tokens_go_by_the_keyboard_alone(page):
    figure = stepped(page)
    first = figure.get_by_role("button", name="1 image")
    first.focus()
    for step in STEPS[1:]:
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "step"
        assert page.evaluate("document.activeElement.textContent").endswith(step)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "7 back"
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Next"
    page.keyboard.press("Enter")
    expect(figure.locator('[aria-current="step"]')).to_have_text("2 windows")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "button"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    expect(figure.get_by_role("status")).to_contain_text("The token looks at the 49 of its own window")
    assert looked_at(page) == set(tables_of(*windows())["plain"][3].tolist())
