"""Live components in a real browser: driven by the keyboard, true to what was recorded, and quiet."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from executed.live import drop_carried, is_live
from executed.twin import make_twin
from playwright.sync_api import Page

from attention_notes.chapters.widgets import Live, parts, source
from attention_notes.chapters.widgets.inspector import Look, over_text
from attention_notes.chapters.widgets.inspector_image import over_image
from attention_notes.chapters.widgets.softmax import WIDTHS, derivative_norm, products, softmax_and_scale
from attention_notes.inspect.attention_maps import Seen, see
from attention_notes.papers.deit import deit
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit
from tests.book.built import ROOT
from tests.book.visiting import awake, barriers, quiet, serving, visit

PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>Live</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">{head}
<style>html[data-theme=dark] {{ --pst-color-text-base: #ced6dd; --pst-color-text-muted: #9ca4af;
--pst-color-background: #14181e; --pst-color-surface: #222832; --pst-color-border: #48566b;
--pst-color-primary: #9fb1cc; background: #14181e; color: #ced6dd }} </style></head>
<body><main><h1>Live</h1>{body}</main></body></html>"""


def html_of(live: Live) -> str:
    """What a notebook shows."""
    return live._repr_mimebundle_()["text/html"]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("pages")
    with serving(folder) as address:
        yield folder, address


@pytest.fixture
def look(served, browser):
    """Opens a page of components; after the test there must have been no error and no scrolling sideways."""
    folder, address = served
    opened = []

    def opening(body: str, *, head: str = "", width: int = 1280, theme: str = "light", near: bool = True) -> Page:
        name = f"{len(list(folder.glob('*.html')))}.html"
        (folder / name).write_text(PAGE.format(theme=theme, head=head, body=body), encoding="utf-8")
        size = {"width": width, "height": 900}
        page = quiet(browser.new_context(viewport=size).new_page())
        visit(page, f"{address}/{name}")
        opened.append(page)
        return awake(page) if near else page

    yield opening
    for page in opened:
        assert page.problems == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        page.context.close()


TOKENS = list("9 mai 1998"), ["start", "1", "9", "9", "8", "-"]


def text_looks() -> dict[str, Look]:
    torch.manual_seed(0)
    words, written = TOKENS
    causal = torch.randn(3, 6, 6).masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
    return {
        "encoder": Look(torch.randn(3, 10, 10).softmax(-1), words, words),
        "causal": Look(causal, written, written),
        "cross": Look((3 * torch.randn(3, 6, 10)).softmax(-1), written, words),
    }


def model_of(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "dim": 12, "depth": 2, "heads": 3, "hidden": 20}
    if kind == "vit":
        return vit("Ti/16", patch=8, **sizes)
    if kind == "deit":
        return deit("Ti/16 distilled", patch=8, drop_path=0.0, **sizes)
    if kind == "swin":
        return swin("swin_t", num_classes=None, image_size=32, window=4, dim=12, depths=(2,), heads=(3,), drop_path=0.0)
    few = {"dims": (8, 8, 8, 8), "heads": (1, 2, 2, 2), "depths": (1, 1, 1, 1), "ratios": (4, 2, 1, 1)}
    return pvt("pvt_v2_b0", expansions=(2, 2, 2, 2), **few)


@functools.cache
def seen(kind: str) -> tuple[Seen, torch.Tensor]:
    model = model_of(kind)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)  # so that weights differ
    images = torch.rand(2, 3, 32, 32)
    return see(model, images), images


@functools.cache
def component(kind: str) -> Live:
    if kind == "text":
        return over_text(text_looks(), first="cross", query=2)
    return softmax_and_scale() if kind == "softmax" else over_image(*seen(kind))


KINDS = ["text", "vit", "deit", "swin", "pvt", "softmax"]


def allowed(live: Live, layer: int, weights: torch.Tensor) -> torch.Tensor:
    """How far a weight may be off: a root is off by half a step at most, and six digits are shown."""
    step = json.loads(live.json)["layers"][layer]["weights"]["step"]
    return step * weights.sqrt() + step**2 / 4 + 2e-6


def weights_in(page: Page, selector: str) -> torch.Tensor:
    found = page.locator(selector).evaluate_all("nodes => nodes.map(node => Number(node.dataset.weight))")
    return torch.tensor(found, dtype=torch.float64)


def choose(page: Page, label: str, index: int) -> None:
    """Pick an option by keys alone."""
    box = page.get_by_label(label, exact=True)
    box.focus()
    box.press("Home")
    for _ in range(index):
        box.press("ArrowDown")
    assert box.evaluate("box => box.selectedIndex") == index


@pytest.mark.parametrize(("layer", "head", "query"), [(0, 0, 9), (0, 3, 0), (1, 2, 3), (2, 0, 2), (2, 1, 5)])
def test_keys_lead_to_the_recorded_weights_of_a_text(look, layer, head, query):
    page, live = look(html_of(component("text"))), component("text")
    choose(page, "layer", layer)
    choose(page, "head", head)
    page.locator("[role=radio][tabindex='0']").focus()
    page.keyboard.press("Home")
    for _ in range(query):
        page.keyboard.press("ArrowRight")
    weights = list(text_looks().values())[layer].weights.double()
    expected = weights.mean(0)[query] if head == 0 else weights[head - 1, query]
    assert ((weights_in(page, "ol > li") - expected).abs() <= allowed(live, layer, expected)).all()
    assert page.locator("[role=radio][aria-checked=true]").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-checked')") == "true"


def test_a_causal_layer_shows_nothing_of_the_future(look):
    page = look(html_of(component("text")))
    choose(page, "layer", 1)
    page.locator("[role=radio][tabindex='0']").focus()
    page.keyboard.press("Home")
    assert weights_in(page, "ol > li").tolist() == [1, 0, 0, 0, 0, 0]
    assert page.locator("ol > li").nth(1).inner_text().split() == ["1", "–"]


def test_the_sentence_names_the_token_that_gets_most(look):
    page = look(html_of(component("text")))
    weights = text_looks()["cross"].weights.mean(0)[2]
    best = int(weights.argmax())
    said = page.get_by_role("status")
    said.get_by_text("attends most to").wait_for()
    name = {" ": "a space"}.get(TOKENS[0][best], f"“{TOKENS[0][best]}”")
    where = f" at {best + 1}" if TOKENS[0].count(TOKENS[0][best]) > 1 else ""
    assert f"attends most to {name}{where} ({100 * weights[best]:.0f}\u00a0%)" in said.inner_text()


@pytest.mark.parametrize("kind", ["vit", "deit", "swin", "pvt"])
def test_keys_lead_to_the_recorded_weights_of_every_layer_over_a_picture(look, kind):
    """Held against ``seeing``'s own way to lay out a map, which the component does not use."""
    (found, _), live = seen(kind), component(kind)
    page = look(html_of(live))
    choose(page, "picture", 1)
    for number, layer in enumerate(found.layers.values()):
        choose(page, "layer", number)
        heads = layer.weights.shape[1]
        if heads > 1:
            choose(page, "head", heads)
        page.locator("[role=gridcell][tabindex='0']").focus()
        for key in ["ArrowUp"] * 9 + ["Home"] + ["ArrowDown"] * (layer.extra > 0) + ["ArrowDown", "ArrowRight"]:
            page.keyboard.press(key)
        grid = layer.placed.grid
        cell = [min(1, side - 1) for side in grid.size]
        at = tuple(int(c + s * i) for c, s, i in zip(grid.centre, grid.stride, cell, strict=True))
        assert page.evaluate("document.activeElement.ariaLabel") == f"row {cell[0] + 1}, column {cell[1] + 1}"
        gaze = layer.map(at)
        expected = gaze.places[1, heads - 1].flatten().double()
        assert ((weights_in(page, "svg rect[data-weight]") - expected).abs() <= allowed(live, number, expected)).all()
        extra = gaze.extra[1, heads - 1].double()
        assert ((weights_in(page, "[role=gridcell][data-weight]") - extra).abs() <= allowed(live, number, extra)).all()


def test_the_class_token_asks_by_a_key_and_by_a_click(look):
    (found, _), live = seen("vit"), component("vit")
    page = look(html_of(live))
    assert page.evaluate("document.querySelector('svg image') instanceof SVGImageElement"), "the picture is drawn"
    expected = list(found.layers.values())[-1].map("class").places[0].mean(0).flatten().double()
    shown = functools.partial(weights_in, page, "svg rect[data-weight]")
    assert ((shown() - expected).abs() <= allowed(live, 1, expected)).all(), "it asks first"
    page.get_by_role("gridcell", name="row 3, column 2", exact=True).click()
    assert not ((shown() - expected).abs() <= allowed(live, 1, expected)).all()
    for _ in range(4):
        page.keyboard.press("ArrowUp")
    assert ((shown() - expected).abs() <= allowed(live, 1, expected)).all()


def test_a_place_stays_chosen_when_the_layer_has_another_grid(look):
    page = look(html_of(component("pvt")))
    choose(page, "layer", 0)
    page.get_by_role("gridcell", name="row 7, column 3", exact=True).click()
    choose(page, "layer", 1)
    assert page.locator("[role=gridcell][aria-selected=true]").get_attribute("aria-label") == "row 4, column 2"


@pytest.mark.parametrize("width", [64, 1024])
def test_sliders_show_the_softmax_that_python_computes(look, width):
    page = look(html_of(component("softmax")))
    slider = page.get_by_role("slider", name="width d")
    slider.focus()
    slider.press("Home")
    for _ in range(WIDTHS.index(width)):
        slider.press("ArrowRight")
    heat = page.get_by_role("slider", name="temperature")
    heat.focus()
    for _ in range(6):
        heat.press("ArrowRight")
    page.get_by_role("button", name="Other vectors").press("Enter")
    scores = products()[1, WIDTHS.index(width)] / 10**0.3
    for side, given in enumerate((scores, scores / width**0.5)):
        p = given.softmax(-1)
        assert torch.allclose(weights_in(page, f".softmax-panel:nth-child({side + 1}) li"), p, atol=1e-4)
        numbers = page.locator(".softmax-panel").nth(side).evaluate("node => ({ ...node.dataset })")
        assert abs(float(numbers["slope"]) - derivative_norm(p).item()) < 2e-4
        assert (
            abs(float(numbers["entropy"]) + torch.special.xlogy(p, p).sum().item() / torch.tensor(2.0).log().item())
            < 1e-3
        )
    assert slider.get_attribute("aria-valuetext") == str(width)


@pytest.mark.parametrize("kind", KINDS)
def test_without_scripts_the_still_picture_stands(look, served, browser, kind):
    folder, address = served
    (folder / "still.html").write_text(
        PAGE.format(theme="light", head="", body=html_of(component(kind))), encoding="utf-8"
    )
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/still.html")
    image = page.get_by_role("img", name=component(kind).alt)
    assert image.is_visible()
    assert image.bounding_box()["height"] > 80
    assert page.locator("select, input, [role=grid]").count() == 0
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_on_a_phone_and_on_a_desk_nothing_sticks_out_and_nobody_is_left_out(look, width, theme):
    page = look("".join(html_of(component(kind)) for kind in KINDS), width=width, theme=theme)
    assert page.locator("figure.live[data-ready]").count() == len(KINDS)
    assert page.locator("figure.live > img").count() == 0
    beyond = "[...document.querySelectorAll('figure.live *')].filter(n => n.getBoundingClientRect().right > innerWidth)"
    wide = page.evaluate(f"{beyond}.map(node => node.outerHTML.slice(0, 99))")
    assert wide == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    assert barriers(page, "main") == []


def test_a_figure_is_built_when_it_comes_near_and_not_before(look):
    page = look('<p style="height: 5000px">far above</p>' + html_of(component("softmax")), near=False)
    assert page.locator("figure.live > img").count() == 1
    page.keyboard.press("End")
    page.get_by_role("slider", name="width d").wait_for()
    assert page.locator("figure.live > img").count() == 0


def test_two_of_a_kind_on_one_page_are_each_their_own(look):
    page = look(2 * html_of(component("text")))
    first, second = (page.locator("figure.live").nth(i) for i in range(2))
    before = second.locator("ol").inner_text()
    first.locator("[role=radio]").first.click()
    assert second.locator("ol").inner_text() == before != first.locator("ol").inner_text()


def test_a_component_whose_data_are_broken_leaves_its_picture(look):
    body = re.sub(r'"layers":\[', '"layers_":[', html_of(component("text")), count=1)
    page = look(body)
    assert page.locator("figure.live > img").is_visible()
    assert page.locator("figure.live select").count() == 0
    assert len(page.problems) == 1
    page.problems.clear()


def test_on_the_site_the_scripts_come_from_files_of_their_own(look, served):
    folder, _ = served
    (folder / "live").mkdir(exist_ok=True)
    body, files = drop_carried(html_of(component("text")), root="")
    assert "Live.define" not in body
    assert len(body) < 3000, "the data, too"
    (folder / "_static/live").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / "_static/live" / name).write_bytes(content)
    for name in parts("inspector"):
        (folder / "live" / name).write_bytes((ROOT / "src/attention_notes/chapters/widgets" / name).read_bytes())
    scripts = "".join(
        f'<script defer src="live/{name}"></script>' for name in parts("inspector") if name.endswith("js")
    )
    styles = "".join(
        f'<link rel="stylesheet" href="live/{name}">' for name in parts("inspector") if name.endswith("css")
    )
    page = look(body, head=styles + scripts)
    assert page.locator("[role=radio]").count() == 6


def test_a_component_whose_data_do_not_come_leaves_its_picture(look, served):
    folder, _ = served
    body, files = drop_carried(html_of(component("text")), root="lost/")
    (folder / "lost/_static/live").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if name.endswith(".png"):
            (folder / "lost/_static/live" / name).write_bytes(content)
    page = look(body + source("inspector"), near=False)
    page.wait_for_timeout(500)
    assert page.locator("figure.live > img").evaluate("picture => picture.naturalWidth") > 100
    assert page.locator("figure.live select").count() == 0
    assert any("no data at" in problem for problem in page.problems)
    page.problems.clear()


def test_a_large_file_moves_to_an_address_of_its_own():
    live = component("text")
    live = Live("inspector", {"a": 1}, alt="a", still=_figure(), files={"weights": b"many\x00bytes"})
    kept, files = drop_carried(html_of(live), root="../")
    (name,) = (name for name, content in files.items() if content == b"many\x00bytes")
    assert f'data-file="weights" data-address="../_static/live/{name}"></script>' in kept
    assert "bWFue" not in kept
    assert is_live(kept)
    assert "data-live-source" not in kept


def _figure():
    from attention_notes.chapters.plots import lines

    return lines({"a": [1.0, 2.0]}, xlabel="x", ylabel="y")


def executed(*outputs: dict[str, str]) -> nbformat.NotebookNode:
    shown = [nbformat.v4.new_output("display_data", data=data) for data in outputs]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("inspector(maps)", outputs=shown)])


def twin(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    cells = make_twin(notebook, resolve=lambda *_: "", source=str, repository="r", fingerprint="f").cells
    return cells[1]


def test_the_twin_keeps_the_words_of_a_component_and_does_not_compare_them():
    cell = twin(executed(component("text")._repr_mimebundle_()))
    (output,) = cell.outputs
    assert output.data == {"text/plain": component("text").alt}
    assert cell.metadata.tags == ["live", "nbval-ignore-output"]


def test_html_of_another_kind_stays_in_the_twin():
    cell = twin(executed({"text/html": "<table></table>", "text/plain": "t"}))
    assert cell.outputs[0].data["text/html"] == "<table></table>"
    assert "tags" not in cell.metadata


def test_a_cell_that_shows_a_component_shows_nothing_else():
    with pytest.raises(ValueError, match="shows nothing else"):
        twin(executed(component("text")._repr_mimebundle_(), {"text/plain": "more"}))
