"""The form of a chapter: how long it may be, and what it must have, so that a reader finds the same in each.

A chapter says its form in its front matter, ``form: full``, ``middle`` or ``light``.
"""

import re

import pytest
from executed.closure import code_cells

from tests.book.built import KEYS, ROOT, form_of, page_of

# Words of prose and code cells of the story, its lines that are not empty, and the checks that interrupt it.
BUDGETS = {"full": (2500, 30, 400, 8), "middle": (1400, 18, 300, 6), "light": (700, 10, 200, 4)}
COLUMNS = 88  # of a cell
CLOSING = "## The notes, line by line"
# What the full form must have, in this order; the lighter ones need not train.
SECTIONS = (
    "By hand",
    "What it changed",
    "What the papers? reports?",
    "Check it",
    "Before you use it",
    "Exercises",
    "References",
)


def chapter(key: str) -> str:
    return (ROOT / f"{page_of(key)}.md").read_text(encoding="utf-8")


def story(key: str) -> str:
    """The chapter without its front matter, its closing section and what is folded away."""
    text = chapter(key).split("---\n", 2)[2].partition(f"\n{CLOSING}\n")[0]
    return re.sub(r"(?ms)^(`{3,})\{admonition\} Solution\n.*?^\1$", "", text)


def prose(text: str) -> str:
    """What is read: no code, no formulas, no drawings, no tables."""
    text = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)
    text = re.sub(r"(?s)\$\$.*?\$\$(?: *\([\w-]+\))?", "", text)
    text = re.sub(r"(?m)^\([\w-]+\)=$", "", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def words(text: str) -> int:
    return len(re.findall(r"\w+(?:['’.,-]\w+)*", re.sub(r"\{[\w:]+\}`[^`<]*(?:<[^>]*>)?`", "role", prose(text))))


def test_words_are_those_that_are_read():
    text = "(key)=\n\nTwo words, {cite}`a2021b`.\n\n$$\na = b\n$$ (eq-a)\n\n| a | b |\n\n```{code-cell}\nx = 1\n```\n"
    assert words(text) == 3


@pytest.mark.parametrize("key", KEYS)
def test_a_chapter_keeps_the_budget_of_its_form(key):
    most = dict(zip(("words", "cells", "lines", "checks"), BUDGETS[form_of(key)], strict=True))
    text = story(key)
    found = {
        "words": words(text),
        "cells": len(code_cells(text)),
        "lines": sum(bool(line.strip()) for line in text.splitlines()),
        "checks": sum(len(re.findall(r"\bcheck(?:_counts)?\(", cell)) for cell in code_cells(text)),
    }
    assert {name: (found[name], most[name]) for name in most if found[name] > most[name]} == {}


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("book/chapters/*.md"), *ROOT.glob("book/pages/*.md")]), ids=lambda p: p.stem
)
def test_cells_are_no_wider_than_a_page(page):
    text = page.read_text(encoding="utf-8")
    cells = [*code_cells(text), *re.findall(r"(?ms)^```python\n(.*?)^```$", text)]  # those of folded solutions, too
    wide = [line for cell in cells for line in cell.splitlines() if len(line) > COLUMNS]
    assert wide == []


@pytest.mark.parametrize("key", KEYS)
def test_a_chapter_has_its_sections_in_their_order(key):
    headings = re.findall(r"(?m)^## (.*)$", chapter(key))
    places = [next((i for i, h in enumerate(headings) if re.fullmatch(s, h)), -1) for s in SECTIONS]
    assert -1 not in places, dict(zip(SECTIONS, places, strict=True))
    assert places == sorted(places)
    assert headings[-1] == CLOSING.removeprefix("## ")


@pytest.mark.parametrize("key", KEYS)
def test_the_drawing_comes_first_and_imports_are_folded(key):
    before, drawing, after = story(key).partition("```{flow}")
    assert drawing, "a chapter begins with a drawing: {flow}"
    assert words(before) < 250, "the drawing is far down"
    assert "code-cell" not in before
    assert "## By hand" not in before
    first = after.partition("```{code-cell}\n")[2]
    assert re.match(r":tags: \[hide-input\]\n(?:import|from) ", first)


@pytest.mark.parametrize("key", KEYS)
def test_the_worked_example_prints_numbers(key):
    section = re.split(r"(?m)^## ", chapter(key).partition("\n## By hand\n")[2])[0]
    assert "print(" in "".join(code_cells(section))


@pytest.mark.parametrize("key", KEYS)
def test_what_the_paper_reports_is_a_table_with_its_place_in_the_paper(key):
    """Each table of published numbers is introduced by the table, figure or section that it is from."""
    section = re.split(r"(?m)^## ", re.split(r"(?m)^## What the papers? reports?$", chapter(key))[1])[0]
    tables = re.findall(r"(?m)^([^\n|].*)\n\n\|(?:.*\n\|)+", section)
    assert tables
    assert [line for line in tables if not re.search(r"(?i)\b(?:tables?|figures?|sections?) \S", line)] == []


@pytest.mark.parametrize("key", KEYS)
def test_exercises_are_marked_and_one_predicts_and_one_implements(key):
    section = re.split(r"(?m)^## ", chapter(key).partition("\n## Exercises\n")[2])[0]
    marks = re.findall(r"(?m)^\*\*\d\*\* \(([^)]*)\)\. ", section)
    assert len(marks) == section.count("} Solution\n") > 0
    assert all(re.match("easy|medium|hard", mark) for mark in marks), marks
    if form_of(key) == "full":
        assert any("predict" in mark for mark in marks), marks
        assert any("implement" in mark for mark in marks), marks


@pytest.mark.parametrize("key", KEYS)
def test_the_closing_section_has_all_statements_and_folds_what_it_runs(key):
    closing = chapter(key).partition(f"\n{CLOSING}\n")[2]
    assert f"```{{statements}} {key}\n```" in closing
    cells = re.findall(r"(?ms)^```\{code-cell\}\n(.*?)^```$", closing)
    assert [cell for cell in cells if not cell.startswith(":tags: [hide-input]\n")] == []
