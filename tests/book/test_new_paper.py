"""A paper is added by its folder, its tests, its chapter, one line of the contents and one entry of the bibliography.

A throw-away paper (``throwaway/``) is added so, in a copy of the house, and must then be found by everything that goes
over all papers. No cheaper test shows that nothing else has to be touched.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.built import ROOT, jupyter_book

GIVEN = Path(__file__).parent / "throwaway"
KEY = "averaging"
COPIED = ("src", "tests", "benchmarks", "book/_ext", "book/_static", "book/chapters", "book/pages")
FILES = (
    "_config.yml",
    "_toc.yml",
    "pyproject.toml",
    "requirements.txt",
    "book/references.bib",
    "book/conftest.py",
    "book/house.py",
)
BOOK = """\
# A small book

```{map}
```

```{ledger}
```
"""


def git(root: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the house with one paper more."""
    root = tmp_path_factory.mktemp("house")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=leave)
    for name in FILES:
        shutil.copy(ROOT / name, root / name)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "before")
    shutil.copytree(GIVEN / "paper", root / f"src/attention_notes/papers/{KEY}", ignore=leave)
    shutil.copytree(GIVEN / "tests", root / f"tests/papers/{KEY}", ignore=leave)
    shutil.copy(GIVEN / "chapter.md", root / f"book/chapters/{KEY}.md")
    with (root / "book/references.bib").open("a", encoding="utf-8") as entries:
        entries.write((GIVEN / "entry.bib").read_text(encoding="utf-8"))
    contents = root / "_toc.yml"
    line = "      - file: book/chapters/vit\n"
    text = contents.read_text(encoding="utf-8")
    contents.write_text(text.replace(line, f"{line}      - file: book/chapters/{KEY}\n"), encoding="utf-8")
    return root


def run(root: Path, *words: str) -> str:
    """What a command says in the copy, with the copy's package."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_nothing_else_was_touched(house):
    touched = {line[3:] for line in git(house, "status", "--porcelain").splitlines()}
    assert touched == {
        f"src/attention_notes/papers/{KEY}/",
        f"tests/papers/{KEY}/",
        f"book/chapters/{KEY}.md",
        "_toc.yml",
        "book/references.bib",
    }
    changed = git(house, "diff", "--numstat").splitlines()
    assert sorted(line.split("\t")[2] for line in changed) == ["_toc.yml", "book/references.bib"]
    assert [line for line in changed if line.startswith("1\t0\t_toc.yml")], "one line"


def test_the_command_line_and_the_table_of_all_models_find_it(house):
    """In one process, for its start takes longest."""
    program = (
        "from attention_notes.__main__ import main; from attention_notes.chapters.model_table import Table\n"
        "from attention_notes.registry import measure\n"
        f"for command in (['list', '{KEY}'], ['show', '{KEY}:tiny'], ['verify', '{KEY}:tiny']):\n"
        "    assert main(command) == 0; print('the next')\n"
        f"print(Table({{'{KEY}:tiny': measure('{KEY}:tiny')}})._repr_html_())"
    )
    listed, shown, verified, table = run(house, sys.executable, "-c", program).split("the next\n")
    assert listed.startswith(f"{KEY}:tiny\n")
    assert "29,848 parameters" in shown
    assert "1 models, 0 off" in verified
    assert f'<tr data-chapter="{KEY}">' in table, "the page of all models"


@pytest.fixture(scope="module")
def built(house) -> Path:
    """The copy with a small book built, which writes the twin that every chapter has."""
    (house / "book/pages/small.md").write_text(BOOK, encoding="utf-8")
    contents = f"format: jb-book\nroot: book/pages/small\nchapters: [{{file: book/chapters/{KEY}}}]\n"
    whole = (house / "_toc.yml").read_text(encoding="utf-8")
    (house / "_toc.yml").write_text(contents, encoding="utf-8")
    try:
        build = jupyter_book(house)
    finally:
        (house / "_toc.yml").write_text(whole, encoding="utf-8")
        (house / "book/pages/small.md").unlink()
    assert build.returncode == 0, (build.stdout + build.stderr)[-3000:]
    return house


def test_the_book_finds_it(built):
    """The page, its twin, the map and the ledger."""
    page = (built / "_build/html/book/pages/small.html").read_text(encoding="utf-8")
    assert re.search(rf'class="paper-map".*href="../chapters/{KEY}.html"', page, re.DOTALL), "the map"
    assert f"chapters/{KEY}.html#claim-{KEY}-order" in page, "the ledger"
    assert "holds" in (built / f"_build/html/book/chapters/{KEY}.html").read_text(encoding="utf-8")
    assert (built / f"book/chapters/{KEY}.ipynb").exists(), "the twin"


def test_the_suites_over_all_papers_find_it(built):
    tests = (
        "tests/test_contract.py",
        "tests/test_mutations.py",
        "tests/test_structure.py",
        f"tests/papers/{KEY}",
        "tests/registry",
    )
    everything = (
        "test_every_variant_is_in_the_registry_and_has_its_line_in_the_facts",
        "test_imports_go_one_way",
        "test_a_paper_imports_those_only_that_it_builds_on",
    )
    chosen = " or ".join((KEY, *everything))
    said = run(built, sys.executable, "-m", "pytest", "-k", chosen, "-p", "no:cacheprovider", "-vv", *tests)
    passed = re.findall(r"(\w+\.py)::(.+?) PASSED", said)
    assert len([name for file, name in passed if file == "test_contract.py"]) >= 12
    assert any(file == "test_mutations.py" for file, _ in passed)
    assert any(name.startswith("test_a_key_is_found_in_every_room") for _, name in passed)
    assert any(file == "test_model.py" for file, _ in passed)
    assert {name for file, name in passed if file == "test_structure.py"} >= {*everything}
