"""What is executed, and when: only what changed, never twice, and never with an error let pass."""

import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book.built import ROOT, jupyter_book

CHAPTER = """---
jupytext: {{text_representation: {{extension: .md, format_name: myst}}}}
kernelspec: {{name: python3, display_name: Python 3}}
---
# {title}

```{{code-cell}}
from attention_notes.nn.{module} import {name}
print({name}.__name__)
```
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Path]:
    """A small book, built, in the same house: its own chapters, this extension, a copy of the package.

    What the chapters import needs no PyTorch, so that a kernel starts in half a second.
    """
    root = tmp_path_factory.mktemp("house")
    leave = shutil.ignore_patterns("__pycache__", "*.ipynb", "*.egg-info")
    shutil.copytree(ROOT / "book/_ext", root / "book/_ext", ignore=leave)
    shutil.copytree(ROOT / "book/_static", root / "book/_static")
    shutil.copytree(ROOT / "src", root / "src", ignore=leave)
    shutil.copy(ROOT / "requirements.txt", root)
    shutil.copy(ROOT / "_config.yml", root)
    (root / "book/references.bib").touch()
    (root / "book/chapters").mkdir()
    (root / "book/pages").mkdir()
    (root / "book/pages/intro.md").write_text("# A small book\n\n```{index} small word\n```\n", encoding="utf-8")
    write(root, "heads", module="heads", name="check_heads")
    write(root, "tables", module="variants", name="lookup")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/pages/intro\n"
        "chapters: [{file: book/chapters/heads}, {file: book/chapters/tables}]\n",
        encoding="utf-8",
    )
    assert executed(root) == ["heads", "tables"]
    yield root
    assert list(root.rglob("*.part")) == [], "nothing half written is left, whatever failed"


def write(root: Path, stem: str, *, module: str, name: str) -> None:
    text = CHAPTER.format(title=stem.title(), module=module, name=name)
    (root / f"book/chapters/{stem}.md").write_text(text, encoding="utf-8")


def executed(root: Path) -> list[str]:
    build = jupyter_book(root)
    said = build.stdout + build.stderr
    assert build.returncode == 0, said[-3000:]
    return sorted(set(re.findall(r"(\w+)\.md: Executed notebook", said)))


def worked() -> float:
    """Seconds that the processes which this one waited for have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_life_of_a_small_book(small):
    nn = small / "src/attention_notes/nn"
    begin = worked()
    assert executed(small) == [], "an unchanged book executes nothing"
    assert worked() - begin < 10, "seconds of the processor: a busy machine is not a slow build"
    append(nn / "variants.py", "\nANOTHER = 'line'\n")
    assert executed(small) == ["tables"], "only the chapter that imports the module"
    text = (nn / "variants.py").read_text(encoding="utf-8")
    (nn / "variants.py").write_text(text.replace('"""', '"""In other words. ', 1) + "\n# a comment\n", encoding="utf-8")
    append(small / "src/attention_notes/chapters/widgets/live.css", "/* another coat */\n")
    assert executed(small) == [], "a docstring, a comment and a style change no output"
    append(nn / "heads.py", "\ncheck_heads.__name__ = 'count_heads'\n")
    append(nn / "heads.py", "\n_tables = __import__('importlib').import_module('attention_notes.nn.variants')\n")
    assert executed(small) == ["heads"]
    assert "count_heads" in (small / "_build/html/book/chapters/heads.html").read_text(encoding="utf-8"), (
        "the page is made anew, too"
    )
    append(nn / "variants.py", "\nAND = 'another'\n")
    assert executed(small) == ["heads", "tables"], "also a chapter that imports it by its name in a string"
    append(small / "book/chapters/heads.md", "\nA last word.\n")
    assert executed(small) == [], "prose is not executed"
    index = (small / "_build/html/searchindex.js").read_text(encoding="utf-8")
    assert '"small word"' in index, "a page that is not written anew keeps its entries in the search"
    assert "A last word." in (small / "_build/html/book/chapters/heads.html").read_text(encoding="utf-8")
    assert "A last word." in (small / "book/chapters/heads.ipynb").read_text(encoding="utf-8")
    contents = (small / "_toc.yml").read_text(encoding="utf-8")
    (small / "_toc.yml").write_text(contents.replace(", {file: book/chapters/tables}", ""), encoding="utf-8")
    assert executed(small) == [], "a page that is gone leaves nothing behind"
    assert not (small / "_build/html/book/chapters/tables.html").exists()
    assert "chapters/tables" not in (small / "_build/html/searchindex.js").read_text(encoding="utf-8")
    (small / "_toc.yml").write_text(contents, encoding="utf-8")
    assert executed(small) == []
    append(small / "book/_static/book.css", "/* another coat */\n")
    assert executed(small) == []
    assert "another coat" in (small / "_build/html/_static/book.css").read_text(encoding="utf-8"), "style is taken over"


def test_a_cell_that_raises_fails_the_build_now_and_the_next_time_and_leaves_a_site(small):
    write(small, "heads", module="heads", name="NoSuchThing")
    twin = (small / "book/chapters/heads.ipynb").read_bytes()
    for _ in range(2):
        build = jupyter_book(small)
        said = build.stdout + build.stderr
        assert build.returncode == 1
        assert re.search(r"chapters/heads: the cell that begins with .* raised ImportError: cannot import name", said)
        assert said.count("heads.md: Executed notebook") == 1, "executed once a build"
        assert "cannot import name" in (small / "_build/html/book/chapters/heads.html").read_text(encoding="utf-8")
        assert (small / "book/chapters/heads.ipynb").read_bytes() == twin, (
            "a failed build leaves the last good twin alone"
        )
    write(small, "heads", module="heads", name="check_heads")
    assert jupyter_book(small).returncode == 0


CHECKS = """
paper: {title: Heads, authors: A, year: 2017, url: none}
claims:
  heads-one: {says: One is one., source: A, kind: exact, verdict: holds}
  heads-two: {says: Two is one., source: A, kind: counted, verdict: holds}
  heads-gain: {says: It gains., source: A, kind: trained, verdict: holds here, here: A toy.}
  heads-loss: {says: It loses less., source: A, kind: trained, verdict: holds here, here: A toy.}
"""
CELL = """
```{code-cell}
from attention_notes.claims import above, check, equal
check("heads-one", equal("one", 1, ONE))
check("heads-two", equal("two", 2, TWO))
check("heads-gain", above("gain", GAIN, 0.2))
check("heads-loss", above("loss", LOSS, 0.2))
```
"""
EXACT = [
    "heads-one contradicted: one 1 (not 3)",
    "heads-two contradicted: two 2 (not 4)",
]
TRAINED = [
    "heads-gain outside its record: gain ≈0.1 (not above 0.2",
    "heads-loss outside its record: loss nan (not above 0.2",
]


@pytest.mark.parametrize(
    ("values", "status", "listed"),
    [
        ({"ONE": "3", "TWO": "4", "GAIN": "0.3", "LOSS": "0.3"}, 1, EXACT),
        ({"ONE": "1", "TWO": "2", "GAIN": "0.1", "LOSS": "float('nan')"}, 0, TRAINED),
    ],
    ids=["exact and counted", "trained"],
)
def test_a_check_that_fails_is_marked_and_listed_and_the_site_is_there(small, values, status, listed):
    facts = small / "src/attention_notes/papers/heads/facts.yml"
    facts.parent.mkdir()
    facts.write_text(CHECKS, encoding="utf-8")
    heads = (small / "book/chapters/heads.md").read_text(encoding="utf-8")
    append(small / "book/chapters/heads.md", re.sub("|".join(values), lambda name: values[name[0]], CELL))
    try:
        for _ in range(2):  # a failure that comes from the cache is listed again
            build = jupyter_book(small)
            said = build.stdout + build.stderr
            assert build.returncode == status, said[-3000:]
            assert [line for line in listed if line not in said] == []
            assert said.count("contradicted: ") + said.count("outside its record: ") == len(listed)
        page = (small / "_build/html/book/chapters/heads.html").read_text(encoding="utf-8")
        assert page.count("verdict-failed") == len(listed)
        assert "verdict-holds" in page
    finally:
        (small / "book/chapters/heads.md").write_text(heads, encoding="utf-8")
        shutil.rmtree(facts.parent)


def test_a_twin_is_rewritten_for_what_is_exact_and_not_for_what_is_approximate(small):
    heads = (small / "book/chapters/heads.md").read_text(encoding="utf-8")
    text = '\n```{code-cell}\nprint("exact 1.25, trained ≈ 0.875 and ≈-1,024.5e-3")\n```\n'
    append(small / "book/chapters/heads.md", text)
    twin = small / "book/chapters/heads.ipynb"
    try:
        assert executed(small) == ["heads"]
        other = twin.read_text(encoding="utf-8").replace('"exact 1.25, trained ≈ 0.875', '"exact 1.25, trained ≈0.9')
        twin.write_text(other, encoding="utf-8")
        executed(small)
        assert twin.read_text(encoding="utf-8") == other
        twin.write_text(other.replace("exact 1.25, trained ≈0.9", "exact 1.24, trained ≈0.9"), encoding="utf-8")
        executed(small)
        assert "exact 1.24" not in twin.read_text(encoding="utf-8")
    finally:
        (small / "book/chapters/heads.md").write_text(heads, encoding="utf-8")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("from attention_notes.claims import check, true\ncheck('no-such-claim', true('a', 1 > 0))", "no-such-claim"),
        ("from attention_notes.claims import check, true\nx = 'a'\ncheck(x, true('a', 1 > 0))", "as a literal string"),
    ],
)
def test_a_chapter_with_a_mistaken_claim_fails_before_anything_runs(small, cell, message):
    facts = small / "src/attention_notes/papers/heads/facts.yml"
    facts.parent.mkdir()
    facts.write_text("paper: {title: Heads, authors: A, year: 2017, url: none}\nclaims: {}\n", encoding="utf-8")
    heads = (small / "book/chapters/heads.md").read_text(encoding="utf-8")
    append(small / "book/chapters/heads.md", f"\n```{{code-cell}}\n{cell}\n```\n")
    try:
        build = jupyter_book(small)
    finally:
        (small / "book/chapters/heads.md").write_text(heads, encoding="utf-8")
        shutil.rmtree(facts.parent)
    assert build.returncode != 0
    assert message in build.stdout + build.stderr
    assert "Executing notebook" not in build.stdout + build.stderr


def test_a_directive_without_a_plain_form_is_refused(small):
    heads = (small / "book/chapters/heads.md").read_text(encoding="utf-8")
    append(small / "book/chapters/heads.md", "\n```{figure} x.png\nA caption.\n```\n")
    try:
        build = jupyter_book(small)
    finally:
        (small / "book/chapters/heads.md").write_text(heads, encoding="utf-8")
    assert build.returncode != 0
    assert "the directive {figure} has no plain form for Colab" in build.stdout + build.stderr
