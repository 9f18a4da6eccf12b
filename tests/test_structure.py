"""One paper = one key = one folder, tests, a chapter, a line of the contents, an entry of the bibliography.

And who may import whom.
"""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from executed.closure import code_cells, modules
from executed.rooms import source_file
from house import PICTURE, ROOMS, dotted, draw, imports, room_of
from pybtex.database import parse_file

from attention_notes import registry
from attention_notes.claims import audit, calls, claims, keys, load_facts, papers
from attention_notes.papers import families
from attention_notes.papers import keys as with_module

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "attention_notes"
KEYS = papers()
WRITTEN = [key for key in KEYS if source_file(key, ROOT).exists()]  # a missing chapter is told once


def chapter(key: str) -> str:
    return source_file(key, ROOT).read_text(encoding="utf-8")


def cells(key: str) -> list[str]:
    return code_cells(chapter(key))


@pytest.mark.parametrize("key", sorted({*KEYS, *with_module()}))
def test_a_key_is_found_in_every_room(key):
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    rooms = {
        f"src/attention_notes/papers/{key}/model.py": key in with_module(),
        f"src/attention_notes/papers/{key}/facts.yml": key in keys(),
        f"tests/papers/{key}/test_model.py": (ROOT / f"tests/papers/{key}/test_model.py").exists(),
        f"tests/papers/{key}/cases.py": (ROOT / f"tests/papers/{key}/cases.py").exists(),
        f"an entry {key} in book/references.bib": key in bibliography(),
    }
    if key in KEYS:
        rooms |= {
            f"book/chapters/{key}.md": (ROOT / f"book/chapters/{key}.md").exists(),
            f"book/chapters/{key}.ipynb (run make book)": (ROOT / f"book/chapters/{key}.ipynb").exists(),
            f"a line book/chapters/{key} in _toc.yml": re.search(rf"file: book/chapters/{key}\b", toc) is not None,
        }
    assert not [room for room, there in rooms.items() if not there], "missing"


def test_the_chapters_in_the_table_of_contents_exist():
    files = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert [f for f in files if not (ROOT / f"{f}.md").exists()] == []


@pytest.mark.parametrize("key", WRITTEN)
def test_every_claim_is_answered_in_exactly_one_place(key):
    run = [claim for cell in cells(key) for claim in calls(cell)]
    assert audit(key, run, re.findall(r"\{cited\}`([^`]+)`", chapter(key))) == []


def test_a_claim_belongs_to_one_chapter():
    every = [claim for key in keys() for claim in claims(key)]
    assert len(every) == len(set(every))
    assert [c for key in keys() for c in claims(key) if not c.startswith(key.replace("_", "-"))] == []


@pytest.mark.parametrize("key", WRITTEN)
def test_no_check_is_handed_its_answer(key):
    """A literal True or False as the statement's truth, without a measurement, could not fail."""
    handed = []
    for cell in cells(key):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
                given = [
                    *node.args[1:2],
                    *(k.value for k in node.keywords if k.arg in ("statement", "instead", "ours")),
                ]
                handed += [ast.unparse(node) for value in given if isinstance(value, ast.Constant)]
    assert handed == []


@pytest.mark.parametrize("key", WRITTEN)
def test_cells_are_short_and_imports_stand_together(key):
    importing = [cell for cell in cells(key) if re.search(r"(?m)^(import|from) ", cell)]
    assert len(importing) == 1
    assert [cell for cell in cells(key) if len(cell.splitlines()) > (25 if cell in importing else 24)] == []
    assert "start(seed=" in importing[0], "the importing cell begins every run alike: device = start(seed=0)"


@pytest.mark.parametrize("key", WRITTEN)
def test_what_a_chapter_cites_is_in_the_bibliography_with_an_address(key):
    cited = {k.strip() for keys_ in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", chapter(key)) for k in keys_.split(",")}
    cited |= {claim.reference for claim in claims(key).values() if claim.reference}
    assert sorted(cited - bibliography().keys()) == []
    assert [k for k in cited if not bibliography()[k].fields.get("url", "").startswith("http")] == []
    assert [k for k in cited if not {"author"} <= bibliography()[k].persons.keys()] == []


@pytest.mark.parametrize("key", KEYS)
def test_facts_tell_the_paper(key):
    paper = load_facts(key)["paper"]
    assert {"title", "authors", "year"} <= paper.keys()
    assert "arxiv" in paper or "url" in paper
    parents = paper.get("builds_on", {})
    assert [parent for parent in parents if parent not in with_module()] == []
    assert [change for change in parents.values() if not change or change.endswith(".")] == [], "what it changed"


def test_every_variant_is_in_the_registry_and_has_its_line_in_the_facts():
    with_variants = {
        key for key in with_module() if hasattr(import_module(f"attention_notes.papers.{key}"), "VARIANTS")
    }
    assert families().keys() == with_variants
    made, recorded = {key: set() for key in keys()}, {key: {*load_facts(key)["variants"]} for key in keys()}
    for model in registry.MODELS.values():
        made[model.key].add(model.variant)
    assert made == recorded


ORDER = [*ROOMS]


def test_imports_go_one_way():
    wrong = [f"{a} imports {b}" for a, b in imports() if ORDER.index(room_of(a)) < ORDER.index(room_of(b))]
    assert wrong == []


def test_the_drawing_of_the_house_is_of_this_house():
    """``make house`` draws it."""
    assert PICTURE.read_text(encoding="utf-8") == draw()


def test_the_core_names_no_paper():
    core = [(a, b) for a, b in imports() if room_of(a) in ("nn", "inspect", "images", "weights", "claims", "registry")]
    assert [
        f"{a} imports {b}"
        for a, b in core
        if b.split(".")[0] == "papers" and b.split(".")[1:2] != [] and b.split(".")[1] in with_module()
    ] == []


def ancestors(key: str) -> set[str]:
    parents = load_facts(key)["paper"].get("builds_on", {})
    return {*parents}.union(*map(ancestors, parents))


def test_a_paper_imports_those_only_that_it_builds_on():
    for a, b in imports():
        key, other = (name.split(".")[1] if name.startswith("papers.") else "" for name in (a, b))
        if key and other in with_module() and room_of(a) == "papers":
            assert other in {key} | ancestors(key), f"{a} imports {b}"


def test_no_module_imports_itself_by_way_of_others():
    """Not even inside of functions."""
    files = {dotted(file) for file in PACKAGE.rglob("*.py")}
    step: dict[str, set[str]] = {file: set() for file in files}
    for a, b in imports():
        step[a] |= {b if b in files else b.rpartition(".")[0]} & files
    for start in files:
        waiting, seen = [*step[start] - {start}], set()
        while waiting:
            name = waiting.pop()
            assert name != start, f"{start} imports itself by way of {', '.join(sorted(seen))}"
            if name not in seen:
                seen.add(name)
                waiting += step[name]


def test_every_module_says_what_departs_from_its_paper():
    assert [k for k in KEYS if "Departures" not in (PACKAGE / f"papers/{k}/model.py").read_text("utf-8")] == []


def test_every_chapter_uses_the_module_it_explains():
    assert [
        key for key in WRITTEN if not any(m.startswith(f"attention_notes.papers.{key}") for m in modules(chapter(key)))
    ] == []


def test_the_address_is_written_once():
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    holders = []
    for name in tracked.split("\0"):
        if name and Path(name).suffix in {".md", ".py", ".yml", ".toml", ".cff", ""} and (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            holders += [name] if address in text else []
    assert holders == ["_config.yml"]


def test_importing_the_package_costs_little_beyond_torch(tmp_path):
    """All its modules, at most a quarter of torch's own processor time; matplotlib loads with the first figure."""
    program = (
        "import time, importlib, pkgutil; begin = time.process_time(); import torch; start = time.process_time()\n"
        "import attention_notes\n"
        "for m in pkgutil.walk_packages(attention_notes.__path__, 'attention_notes.'):\n"
        "    importlib.import_module(m.name)\n"
        "print((time.process_time() - start) / (start - begin))"
    )
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # as when installed
    shares = [
        float(
            subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=compiled
            ).stdout
        )
        for _ in range(4)
    ]
    assert min(shares[1:]) <= 0.25, shares


def test_what_is_not_for_chapters_needs_none_of_the_extra_book():
    """Neither to be imported nor from the shell; there, a drawing says what it lacks."""
    modules = [name for file in PACKAGE.rglob("*.py") if room_of(name := dotted(file)) not in ("", "chapters")]
    program = (
        "import sys; sys.modules |= dict.fromkeys(('matplotlib', 'sklearn', 'babel', 'IPython'))\n"
        "from importlib import import_module\n"
        f"[import_module('attention_notes.' + name) for name in {modules!r}]\n"
        "from attention_notes.__main__ import main\n"
        "assert main(['show', 'vit:Ti/16']) == 0\n"
        "raise SystemExit(main(['attend', 'nothing.jpg']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert 'pip install "attention-notes[book]"' in done.stderr


@cache
def bibliography():
    return parse_file(ROOT / "book/references.bib").entries
