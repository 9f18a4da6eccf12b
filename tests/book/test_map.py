"""The map of the papers: columns by lineage, steps as the modules import them, no circles."""

import pytest
from executed.lineage import Step, columns, draw, imported, steps_of

from attention_notes.claims import keys, papers
from tests.book.built import ROOT


def step(child: str, parent: str) -> Step:
    return Step(child, parent, "something", ())


def test_a_paper_stands_to_the_right_of_all_that_it_builds_on():
    steps = [step("b", "a"), step("c", "b"), step("d", "a"), step("d", "c")]
    assert columns(["d", "c", "b", "a", "alone"], steps) == [["a", "alone"], ["b"], ["c"], ["d"]]


def test_papers_stand_beside_their_parents():
    steps = [step("y", "b"), step("x", "a"), step("z", "b")]
    assert columns(["a", "b", "y", "z", "x"], steps)[1] == ["x", "y", "z"]


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="b builds on a builds on b: a circle"):
        columns(["b", "a"], [step("a", "b"), step("b", "a")])


def test_imports_are_read_from_the_modules():
    source = "import torch\nfrom attention_notes.papers.vit import Block, vit\nfrom attention_notes.nn.mlp import MLP\n"
    assert imported(source) == {"vit": ("Block", "vit")}


def test_every_step_of_the_book_leads_from_one_chapter_to_another():
    steps = [s for key in papers() for s in steps_of(key, ROOT) if s.parent in papers()]
    others = {s.parent for key in papers() for s in steps_of(key, ROOT)} - {*papers()}
    assert others <= {*keys()}, "a paper without a chapter"
    assert len(steps) >= 2


def test_every_box_is_a_link_and_every_line_says_what_it_means(monkeypatch):
    monkeypatch.setattr("executed.lineage.load_facts", lambda key: {"paper": {"year": 2020}})
    labels = {"a": "The First", "b": "The <Second>"}
    drawing = draw(labels, {"a": "a.html", "b": "b.html"}, [step("b", "a")])
    assert drawing.count("<a href=") == 2
    assert "The &lt;Second&gt; changed The First: something" in drawing


def test_the_introduction_shows_every_chapter_on_the_map(site):
    page = (site / "book/pages/intro.html").read_text(encoding="utf-8")
    drawing = page[page.index('class="paper-map"') : page.index("</svg></div>")]
    assert [key for key in papers() if f'href="../chapters/{key}.html"' not in drawing] == []
