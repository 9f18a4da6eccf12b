"""The drawings of how data flow: what is drawn, and what is refused."""

import base64
import re

import pytest
from executed import flow
from executed.twin import make_twin, plain_markdown

ATTENTION = """title: Attention
x: tokens | b n c
q: [W_Q] ; k: [W_K] ; v: [W_V]
p: (softmax q k^{T}) | b h n n ; -
y: (sum) | b n c
x -> q -> p -> y
x -> k -> p
x -> v -> y "values"
x -> y
repeat q y: × 12
"""


def drawn(text: str) -> str:
    return "".join(map(flow.draw, flow.parse(text.splitlines())))


def test_every_box_stands_there_once_with_its_kind_and_its_shape():
    svg = drawn(ATTENTION)
    assert re.findall(r'class="box (\w+)"', svg) == ["learned"] * 3 + ["plain"] * 2
    assert [svg.count(text) for text in (">tokens<", ">b h n n<", ">values<", ">× 12<", ">Attention<")] == [1] * 5
    assert svg.count('class="tip"') == 8  # one for each arrow


def test_indices_are_lowered_and_raised_and_nothing_is_markup():
    svg = drawn("a: a_{ij}^2 <b> & c\n")
    assert re.findall(r'dy="(-?\d)" font-size="75%">(\w+)<', svg) == [("4", "ij"), ("-5", "2")]
    assert "&lt;b&gt; &amp; c" in svg


def test_boxes_do_not_overlap_and_stay_inside():
    (drawing,) = flow.parse(ATTENTION.splitlines())
    svg = flow.draw(drawing)
    left, top, width, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    boxes = [*drawing.boxes.values()]
    for i, a in enumerate(boxes):
        assert left <= a.x - a.width / 2
        assert a.x + a.width / 2 <= left + width
        assert top <= a.y - a.height / 2
        assert a.y + a.height / 2 <= top + height
        for b in boxes[:i]:
            apart = abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
            assert apart, (a, b)


def test_a_title_that_is_wider_than_its_boxes_is_not_cut():
    title = "a title of some length"
    svg = drawn(f"title: {title}\na: x\n")
    left, _, width, _ = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    middle = float(re.search(r'class="title" x="(-?\d+)"', svg)[1])
    half = flow._width(title, 14) / 2
    assert left <= middle - half
    assert middle + half <= left + width


def test_an_arrow_that_passes_boxes_goes_round_them():
    (drawing,) = flow.parse("a: [long name of a part]\nb: [another]\nc: (+)\na -> b -> c\na -> c\n".splitlines())
    around = re.findall(r'<path d="M([\d.-]+),[\d.-]+ H([\d.-]+) q', flow.draw(drawing))
    assert len(around) == 1
    assert float(around[0][1]) > max(box.x + box.width / 2 for box in drawing.boxes.values())


def test_a_line_of_dashes_begins_another_drawing():
    assert drawn("a: x\n---\nb: y\n").count("<svg") == 2


def test_who_does_not_see_it_is_told_every_arrow():
    (drawing,) = flow.parse(ATTENTION.splitlines())
    told = flow.in_words(drawing)
    assert told.startswith("Attention: tokens to WQ; WQ to softmax q kT;")
    assert told.endswith("WQ to sum: × 12.")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a -> b\n", "no box is named a, b"),
        ("a: x\na: y\n", "two boxes are named a"),
        ("nonsense\n", "'nonsense' is no box"),
        ("a: [x\n", "is not closed"),
        ("a: x\nb: y\nb -> a\n", "goes up"),
        ("\n", "without boxes"),
        (f"a: [{'wide ' * 20}]\n", "a phone shows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        drawn(text)


def test_in_a_notebook_it_is_a_picture_with_its_number_and_caption():
    text = f"```{{flow}}\n:name: flow-a\n:caption: What {{doc}}`vit` draws.\n{ATTENTION}```\n"
    plain = plain_markdown(text, resolve=lambda role, target, words: f"<{role} {target}>", source=str)
    picture, words = filter(None, plain.splitlines())
    svg = base64.b64decode(re.search(r"svg\+xml;base64,([^)]*)\)", picture)[1]).decode()
    assert "<style>" in svg
    assert ">tokens<" in svg
    assert words == "<figure flow-a> What <doc vit> draws."
    cell = {"cell_type": "markdown", "source": text, "metadata": {}}
    twin = make_twin({"cells": [cell]}, resolve=lambda *given: "", source=str, repository="r", fingerprint="f")
    assert picture in twin.cells[1].source
