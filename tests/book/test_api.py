"""The page of the whole package: complete without a list, nothing twice, equations as they are written."""

import json
import re
from html import unescape
from importlib import import_module

import pytest
from executed.api import PAGE, ROOMS, documented, shown

from attention_notes.papers import keys
from tests.book.built import ROOT

PACKAGE = ROOT / "src/attention_notes"


@pytest.fixture(scope="module")
def page(site) -> str:
    return (site / f"{PAGE}.html").read_text(encoding="utf-8")


def test_every_paper_and_every_public_name_of_it_is_there(page):
    for key in keys():
        module = import_module(f"attention_notes.papers.{key}")
        assert f'id="module-attention_notes.papers.{key}"' in page
        own = [
            name
            for name in module.__all__
            if callable(thing := getattr(module, name))
            and thing.__module__.startswith(f"attention_notes.papers.{key}.")
        ]
        assert [name for name in own if f'id="attention_notes.papers.{key}.{name}"' not in page] == []


def test_every_room_but_that_of_the_chapters_is_there():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert rooms - {"chapters"} == set(ROOMS)


def test_what_a_room_hands_out_is_shown_once():
    names = dict(shown(PACKAGE, "claims"))
    assert "ClaimError" not in names["claims"]
    assert "ClaimError" in names["claims.measures"], "where it is defined it is left out"
    assert {"geometry", "weights"} <= dict(shown(PACKAGE, "papers"))["papers.vit"], "modules are no members"


def test_an_equation_stays_as_it_is_written_and_a_list_a_list(page):
    section = page[page.index('id="papers-vit"') :]
    assert re.search(r"<pre>(?:<span></span>)?z(?:'|&#39;)\s+= MSA\(LN\(z\)\) \+ z\nz(?:'|&#39;){2} = MLP", section)
    assert "<li><p>The head is the one linear layer" in section


def test_a_sentence_of_a_property_with_a_colon_is_a_sentence(page):
    words = unescape(re.sub("<[^>]+>", "", page))
    assert "Rows and columns of every stage’s map: those of the patches, halved" in words
    assert not re.search(r"\bType:\s+Rows and columns", words), "what stands before the colon"


def test_a_name_of_the_package_is_found_by_the_search(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    known = json.loads(index[index.index("{") : index.rindex("}") + 1])
    assert any(word == "PatchMerging" for *_, word in known["objects"]["attention_notes.papers.swin"])


def test_a_paper_more_is_on_the_page_without_a_list(tmp_path):
    paper = tmp_path / "attention_notes/papers/averaging"
    paper.mkdir(parents=True)
    (paper / "__init__.py").write_text("__all__ = ['mean']\nfrom attention_notes.papers.averaging.model import mean\n")
    (paper / "model.py").write_text("def mean(): ...\n")
    assert "automodule:: attention_notes.papers.averaging\n" in documented(tmp_path / "attention_notes")
