"""A model in the page, in a real browser: the numbers of PyTorch, loaded on request, drawn by hand and by keyboard."""

import base64
import functools
import re
from collections.abc import Iterator
from importlib import resources

import pytest
import torch
from executed.live import drop_carried
from playwright.sync_api import Page, expect

from attention_notes.chapters import data
from attention_notes.chapters.widgets import parts
from attention_notes.chapters.widgets.draw import drawing_pad, export
from attention_notes.inspect import record_attention
from attention_notes.papers.vit import MeanPooling, vit
from tests.book.visiting import awake, quiet, serving, visit

LIVE = resources.files("attention_notes.chapters.widgets")


def reader(**options):
    """A model with the chapter's sizes and weights large enough that attention has favourites."""
    torch.manual_seed(0)
    sizes = {"patch": 2, "dim": 64, "depth": 3, "heads": 4, "hidden": 128}
    model = vit("Ti/16", **{"num_classes": 10, "image_size": 8, "channels": 1, **sizes, **options}).eval()
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data + torch.randn_like(parameter) * (0.5 if "norm" in name else 0.1)
        parameter.data *= 1.5
    return model.requires_grad_(False)


@functools.cache
def digits():
    return data.digits()[1]


@functools.cache
def pad_of_the_reader():
    return drawing_pad(reader(), *digits())


def page_of(body: str, head: str = "") -> str:
    head = f'<meta charset="utf-8"><title>t</title><link rel="icon" href="data:,">{head}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A notebook's output on a page by itself, and the same as the site has it."""
    root = tmp_path_factory.mktemp("pages")
    carried = pad_of_the_reader()._repr_mimebundle_()["text/html"]
    (root / "notebook.html").write_text(page_of(carried), encoding="utf-8")
    (root / "_static/live").mkdir(parents=True)
    kept, files = drop_carried(carried, root="")
    for name, content in files.items():
        (root / "_static/live" / name).write_bytes(content)
    for name in parts("draw"):
        (root / "_static/live" / name).write_text((LIVE / name).read_text(encoding="utf-8"), encoding="utf-8")
    links = [
        f'<link rel="stylesheet" href="_static/live/{name}">'
        if name.endswith(".css")
        else f'<script defer src="_static/live/{name}"></script>'
        for name in parts("draw")
    ]
    (root / "site.html").write_text(page_of(kept, "".join(links)), encoding="utf-8")
    (root / "empty.html").write_text(page_of(""), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with serving(folder) as address:
        yield address


@pytest.fixture
def page(browser) -> Iterator[Page]:
    page = quiet(browser.new_page(viewport={"width": 1280, "height": 900}))
    page.asked = []
    page.on("request", lambda r: page.asked.append(r.url))
    yield page
    page.close()
    assert page.problems == []


@pytest.fixture
def loaded(page, address) -> Page:
    page.goto(f"{address}/notebook.html")
    page.get_by_role("button", name="Load the model").click()
    page.get_by_role("application").wait_for()
    return page


@pytest.fixture
def scripts(page, address) -> Page:
    """A page with the scripts and nothing else."""
    page.goto(f"{address}/empty.html")
    for name in ("live.js", "vit.js", "scan.js"):
        page.add_script_tag(path=str(LIVE / name))
    return page


RUN = """([manifest, weights, images]) => {
  const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0));
  const model = Live.vit(manifest, bytes.buffer);
  const plain = (value) => (typeof value === "number" ? value : Array.from(value, plain));
  return images.map((image) => {
    const { logits, attention } = model(image);
    return [plain(logits), Object.fromEntries(Object.entries(attention).map(([name, w]) => [name, plain(w)]))];
  });
}"""


def run(page, model, images):
    weights, manifest = export(model)
    flat = [image.flatten().tolist() for image in images]
    return page.evaluate(RUN, [manifest, base64.b64encode(weights).decode(), flat])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pooling": MeanPooling},
        {"channels": 3, "image_size": (9, 10), "patch": (3, 5), "dim": 21, "heads": 7, "hidden": 11, "depth": 2},
    ],
    ids=["the chapter's sizes", "mean pooling", "odd sizes"],
)
def test_the_script_computes_what_pytorch_computes(scripts, options):
    model = reader(**options)
    images = torch.rand(3, model.patches.channels, *model.patches.image_size)
    with record_attention(model) as maps:
        logits = model(images)
    assert max(weights.max() for weights in maps.values()) > 0.5, "attention without favourites would prove little"
    for at, (own_logits, own_maps) in enumerate(run(scripts, model, images)):
        torch.testing.assert_close(torch.tensor(own_logits), logits[at], atol=1e-4, rtol=0)
        assert list(own_maps) == list(maps)
        for name, weights in maps.items():
            torch.testing.assert_close(torch.tensor(own_maps[name]), weights[at], atol=1e-4, rtol=0)


def test_a_damaged_file_is_refused(scripts):
    weights, manifest = export(reader())
    damaged = bytes([weights[0] ^ 1]) + weights[1:]
    for held in (damaged, weights[:-4]):
        with pytest.raises(Exception, match="not the one that was exported"):
            scripts.evaluate(RUN, [manifest, base64.b64encode(held).decode(), []])


SCAN = """([size, ink]) => {
  const bits = new Uint8Array(size * size);
  for (const at of ink) bits[at] = 1;
  const shades = Live.scan(bits, size);
  return shades && Array.from(shades);
}"""


def scan(page, bitmap):
    """bitmap: y x, true where there is ink -> 8 x 8 shades."""
    shades = page.evaluate(SCAN, [bitmap.shape[0], bitmap.flatten().nonzero().flatten().tolist()])
    return shades and torch.tensor(shades).reshape(8, 8)


def bitmap(rows, columns, size=64):
    out = torch.zeros(size, size, dtype=torch.bool)
    out[rows, columns] = True
    return out


def test_a_full_box_is_thinned_twice_and_stands_in_the_middle(scripts):
    """20 x 32 pixels are too much ink; two pixels less all round leave 16 x 28, in rows 2 to 29 and columns 8 to 23."""
    expected = torch.zeros(8, 8)
    expected[1:-1, 2:6] = 1
    expected[[0, -1], 2:6] = 0.5
    assert torch.equal(scan(scripts, bitmap(slice(10, 40), slice(5, 12))), expected)


def test_a_thin_frame_is_thickened(scripts):
    """A ring of one pixel, 20 x 32 large, has 100 pixels: it is thickened twice, inwards, and outwards at the sides."""
    ring = bitmap(slice(7, 39), slice(11, 31)) & ~bitmap(slice(8, 38), slice(12, 30))
    shades = scan(scripts, ring)
    assert (shades[:, 3:5][1:-1] == 0).all(), "the middle stays empty"
    assert (shades[2:-2, 1] > 0.9).all(), "columns 4 to 7 are inked: the ring at 6, two pixels to either side"
    assert shades.sum() * 16 > 256


def test_a_drawing_is_scanned_alike_wherever_it_is_and_however_large(scripts):
    torch.manual_seed(3)
    blob = torch.nn.functional.interpolate(torch.rand(1, 1, 5, 4), size=(30, 20), mode="bilinear")[0, 0] > 0.5
    first = bitmap([], [])
    first[3:33, 8:28] = blob
    moved = bitmap([], [])
    moved[31:61, 40:60] = blob
    large = bitmap([], [], size=128)
    large[20:80, 50:90] = blob.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(scan(scripts, first), scan(scripts, moved))
    assert torch.equal(scan(scripts, first), scan(scripts, large))


def test_a_slanted_stroke_is_made_upright(scripts):
    """NIST's programs sheared every character; a slash and a backslash become the same."""
    slash = bitmap([], [])
    for y in range(60):
        slash[y, 40 - y // 2 : 52 - y // 2] = True
    for drawing in (slash, slash.flip(1)):
        shades = scan(scripts, drawing)
        middles = (shades * torch.arange(8.0)).sum(1) / shades.sum(1)
        assert middles.max() - middles.min() < 1
    assert scan(scripts, bitmap([], [])) is None, "an empty pad has no scan"


def test_the_model_is_fetched_when_it_is_asked_for_and_not_before(page, address, folder):
    visit(page, f"{address}/site.html")
    button = page.get_by_role("button", name=re.compile(r"Load the model, 0\.4 MB"))
    expect(button).to_be_visible()
    expect(page.locator("figure.live img")).to_be_visible()
    assert [url for url in page.asked if url.endswith(".bin")] == []
    assert (folder / "site.html").stat().st_size < 150_000
    button.click()
    page.get_by_role("application").wait_for()
    (url,) = [url for url in page.asked if url.endswith(".bin")]
    assert (folder / url.removeprefix(f"{address}/")).read_bytes() == export(reader())[0]
    expect(page.locator("figure.live img")).to_have_count(0)
    expect(page.get_by_role("application")).to_be_focused()


def test_a_model_that_does_not_come_can_be_asked_for_again(browser, address):
    page = browser.new_page()  # whose console may complain
    page.route("**/*.bin", lambda route: route.fulfill(status=503))
    page.goto(f"{address}/site.html")
    page.get_by_role("button", name="Load the model").click()
    expect(page.get_by_role("status")).to_contain_text("could not be loaded: 503")
    page.unroute("**/*.bin")
    page.get_by_role("button", name="Load the model").click()
    page.get_by_role("application").wait_for()
    page.close()


def test_a_notebook_carries_its_model_and_asks_for_nothing(loaded, address):
    assert [url for url in loaded.asked if url != f"{address}/notebook.html" and "favicon" not in url] == []
    loaded.get_by_role("button", name="Take an example digit").click()
    expect(loaded.locator(".draw-answer")).to_contain_text("This held-out digit is a 0.")


def shown(page):
    """What the page says: percentages of the ten digits, opacities of the pixels, and of the maps by their names."""
    numbers = page.locator(".draw-number").all_inner_texts()
    opacities = "rects => rects.map(rect => Number(rect.getAttribute('fill-opacity')))"
    pixels = page.locator(".draw-ink").evaluate_all(opacities)
    heat = page.locator(".draw-heat").evaluate_all(opacities)
    return numbers, pixels, heat


def percent(share: float) -> str:
    return f"{100 * share:.{1 if share < 0.0995 else 0}f}\u00a0%"


def of_pytorch(image, ask):
    """Probabilities, and what the pictures show: for every layer each head and their mean, as parts of the largest."""
    model = reader()
    with record_attention(model) as maps:
        probabilities = model(image[None]).softmax(-1)[0]
    layers = [ask(weights[0])[:, 1:] for weights in maps.values()]
    pictures = torch.cat([torch.cat([heads, heads.mean(0, keepdim=True)]) for heads in layers])
    return [percent(p) for p in probabilities.tolist()], pictures / pictures.max()


def test_what_is_shown_are_pytorchs_numbers(loaded):
    unseen, truth = digits()
    for digit in range(3):
        loaded.get_by_role("button", name="Take an example digit").click()
        image = unseen[(truth == digit).nonzero()[0, 0]]
        numbers, pixels, heat = shown(loaded)
        expected, pictures = of_pytorch(image, lambda weights: weights[:, 0])
        assert numbers == expected
        assert pixels == image.flatten().tolist()
        torch.testing.assert_close(torch.tensor(heat).reshape(pictures.shape), pictures, atol=1e-4, rtol=0)


def test_one_can_ask_for_the_attention_of_any_token_and_of_their_mean(loaded):
    unseen, truth = digits()
    loaded.get_by_role("button", name="Take an example digit").click()
    image = unseen[(truth == 0).nonzero()[0, 0]]
    choices = {
        "the patch in row 2, column 3": lambda weights: weights[:, 1 + 6],
        "the mean of all tokens": lambda weights: weights.mean(1),
    }
    for choice, ask in choices.items():
        loaded.get_by_label("Attention of", exact=True).select_option(label=choice)
        _, pictures = of_pytorch(image, ask)
        torch.testing.assert_close(torch.tensor(shown(loaded)[2]).reshape(pictures.shape), pictures, atol=1e-4, rtol=0)


def test_the_keyboard_draws(loaded):
    pad = loaded.get_by_role("application")
    loaded.set_viewport_size({"width": 1280, "height": 300})
    pad.scroll_into_view_if_needed()
    before = loaded.evaluate("scrollY")
    expect(loaded.locator(".draw-answer")).to_have_text("The pad is empty.")
    for key in ["ArrowUp"] * 4 + ["Shift+ArrowDown"] * 8:
        pad.press(key)
    expect(loaded.locator(".draw-answer")).to_contain_text("It reads a")
    stroke = shown(loaded)[1]
    assert sum(stroke) > 8
    for key in ["ArrowRight"] * 3 + ["Space"]:
        pad.press(key)
    loaded.wait_for_function(
        "before => [...document.querySelectorAll('.draw-ink')].some("
        "(rect, at) => Number(rect.getAttribute('fill-opacity')) !== before[at])",
        arg=stroke,
    )
    assert loaded.evaluate("scrollY") == before, "the arrow keys draw, and do not scroll"
    expect(loaded.locator(".draw-pad [role=status]")).to_have_text("Pen in row 12, column 11, on ink.")
    loaded.get_by_role("button", name="Clear").press("Enter")
    expect(loaded.locator(".draw-answer")).to_have_text("The pad is empty.")
    assert sum(shown(loaded)[1]) == 0
    assert set(shown(loaded)[0]) == {"–"}


def test_the_pointer_draws_and_a_new_stroke_replaces_an_example(loaded):
    loaded.get_by_role("button", name="Take an example digit").click()
    expect(loaded.locator(".draw-answer")).to_contain_text("This held-out digit is a 0.")
    box = loaded.get_by_role("application").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    loaded.mouse.move(x, y)
    loaded.mouse.down()
    loaded.mouse.move(x, y + box["height"] / 2, steps=9)
    loaded.mouse.up()
    expect(loaded.locator(".draw-answer")).not_to_contain_text("held-out")
    pixels = torch.tensor(shown(loaded)[1]).reshape(8, 8)
    assert (pixels[1:-1, 2:6] == 1).all(), "a straight stroke, stretched to the frame and thinned"
    assert pixels[:, [0, 1, 6, 7]].sum() == 0


def test_the_ink_is_seen_on_light_and_on_dark(loaded):
    loaded.get_by_role("application").press("Space")
    pad = loaded.locator(".draw-pad")
    for ground, dark_ink in (("#ffffff", True), ("#14181e", False)):
        pad.evaluate("(pad, ground) => (pad.style.background = ground)", ground)
        ink = loaded.evaluate(MIDDLE, base64.b64encode(pad.screenshot()).decode())
        assert (ink < 60) if dark_ink else (ink > 180), f"ink of brightness {ink} on {ground}"


MIDDLE = """async (png) => {
  const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  canvas.drawImage(picture, 0, 0);
  return canvas.getImageData(picture.width / 2 + 2, picture.height / 2 + 2, 1, 1).data[0];
}"""


@pytest.fixture(scope="module")
def book(site) -> Iterator[str]:
    with serving(site) as address:
        yield address


@pytest.mark.parametrize("tab", [(390, "dark")], indirect=True, ids=["phone"])
def test_the_chapters_own_model_reads_digits_that_it_has_not_seen(tab, book):
    visit(tab, f"{book}/book/chapters/vit.html")
    figure = awake(tab).locator("figure.live[data-live=draw]")
    figure.get_by_role("button", name="Load the model").click()
    right = 0
    for digit in range(10):
        figure.get_by_role("button", name="Take an example digit").click()
        status = figure.locator(".draw-answer")
        expect(status).to_contain_text(f"This held-out digit is a {digit}.")
        right += f"It reads a {digit}," in status.inner_text()
    assert right >= 9
    assert tab.problems == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
