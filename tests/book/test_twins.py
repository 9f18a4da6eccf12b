"""The guards of the twins fail: a changed digit, a cell without reference, a chapter newer than its twin."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import twins
from executed.closure import fingerprint
from executed.twin import make_twin, write_if_changed

from tests.book.built import ROOT

CHAPTER = """---
kernelspec: {name: python3, display_name: Python 3}
---
# One

```{code-cell}
print("exact 1.25, trained ≈0.875")
```
"""
GIT = ["git", "-c", "user.name=A", "-c", "user.email=a@b"]


@pytest.fixture
def house(tmp_path) -> Path:
    """A book of one chapter with its committed twin, in the house's own clothes."""
    (tmp_path / "book/_ext").mkdir(parents=True)
    (tmp_path / "book/chapters").mkdir()
    (tmp_path / "src/attention_notes").mkdir(parents=True)
    for name in ("book/conftest.py", "book/_ext/approximate.cfg"):
        shutil.copy(ROOT / name, tmp_path / name)
    chapter = tmp_path / "book/chapters/one.md"
    chapter.write_text(CHAPTER, encoding="utf-8")
    printed = nbformat.v4.new_output("stream", name="stdout", text="exact 1.25, trained ≈0.875\n")
    cell = nbformat.v4.new_code_cell('print("exact 1.25, trained ≈0.875")', outputs=[printed])
    executed = nbformat.v4.new_notebook(cells=[cell])
    mark = fingerprint(chapter, tmp_path)
    twin = make_twin(executed, resolve=lambda *_: "", source=str, repository="https://a/b", fingerprint=mark)
    write_if_changed(tmp_path / "book/chapters/one.ipynb", twin)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    return tmp_path


def git(root: Path, *words: str) -> None:
    subprocess.run([*GIT, *words], cwd=root, check=True, capture_output=True)


def change(house: Path, old: str, new: str, name: str = "one.ipynb") -> None:
    file = house / "book/chapters" / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def compared(house: Path) -> int:
    """The status of plain ``pytest --nbval``."""
    words = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "book"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(words, cwd=house, capture_output=True, text=True, check=False, env=environment)
    assert "1 failed" in run.stdout if run.returncode else "2 passed" in run.stdout, run.stdout[-2000:]
    return run.returncode


def test_a_twin_in_step_passes_before_anything_is_built(house):
    assert [*twins.problems(house)] == []
    assert compared(house) == 0


def test_a_changed_digit_fails(house):
    change(house, '"exact 1.25, trained ≈0.875\\n"', '"exact 1.24, trained ≈0.875\\n"')
    assert [*twins.problems(house)] == [
        "book/chapters/one.ipynb is not as it was committed; look at the difference, then commit or stage it"
    ]
    git(house, "add", ".")
    assert [*twins.problems(house)] == []
    assert compared(house) == 1


def test_a_number_of_a_training_may_differ(house):
    change(house, '"exact 1.25, trained ≈0.875\\n"', '"exact 1.25, trained ≈ 0.9\\n"')
    git(house, "add", ".")
    assert compared(house) == 0


def test_a_cell_without_a_reference_fails(house):
    path = house / "book/chapters/one.ipynb"
    twin = nbformat.read(path, as_version=4)
    twin.cells[-1].outputs = []
    nbformat.write(twin, path)
    git(house, "add", ".")
    assert any("no output to compare with for the cell 'print(" in line for line in twins.problems(house))
    twin.cells[-1].execution_count = None
    nbformat.write(twin, path)
    assert any("without an execution count" in line for line in twins.problems(house))
    path.unlink()
    git(house, "add", ".")
    assert [*twins.problems(house)] == ["book/chapters/one.ipynb is missing: make book"]


def test_a_chapter_newer_than_its_twin_fails(house):
    change(house, "exact 1.25", "exact 1.26", name="one.md")
    assert [*twins.problems(house)] == [
        "book/chapters/one.ipynb is older than its chapter or the code behind it: make book",
        "book/chapters/one.ipynb has other cells than its chapter: make book",
    ]


def test_a_check_cannot_be_left_out_of_the_comparison(house):
    path = house / "book/chapters/one.ipynb"
    twin = nbformat.read(path, as_version=4)
    twin.cells[-1].source = "check('one-claim', true('it', 1 > 0))"
    twin.cells[-1].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(twin, path)
    assert any("the check of one-claim is left out" in line for line in twins.problems(house))


def test_make_test_compares_the_twins_before_it_builds_and_looks_at_them_again_after():
    run = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    steps = ["twins.py", "--nbval", "--ignore=tests/book", "jupyter-book build", "twins.py", "tests/book"]
    lines = [line for line in run.stdout.splitlines() if any(step in line for step in steps) and "printf" not in line]
    assert [step in line for step, line in zip(steps, lines, strict=True)] == [True] * len(steps)


@pytest.mark.parametrize("given", ["", "avx2", "default"])
def test_the_twins_are_compared_under_another_instruction_set_than_the_build_uses(given):
    if os.uname().machine != "x86_64":
        pytest.skip("the instruction sets are those of x86-64")
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": given} if given else {**os.environ}
    if not given:
        environment.pop("ATEN_CPU_CAPABILITY", None)
    run = subprocess.run(["make", "-n", "twins"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    (line,) = [line for line in run.stdout.splitlines() if "--nbval" in line]
    assert "ATEN_CPU_CAPABILITY=" in line
    assert not given or f"ATEN_CPU_CAPABILITY={given}" not in line
