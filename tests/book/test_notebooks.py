"""The executed twins: in step with their chapters, comparable, readable without MyST, and sufficient alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from executed.closure import code_cells, files_behind

from attention_notes.claims import MARKS, calls, find
from tests.book.built import CHAPTERS, KEYS, LEAST, NOTEBOOKS, ROOT, form_of, page_of

APPROXIMATE = str(ROOT / "book/_ext/approximate.cfg")
PASSED_OVER = {"nbval-ignore-output", "nbval-skip"}


@pytest.fixture(params=NOTEBOOKS)
def twin(request, site) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / f"{page_of(request.param)}.ipynb", as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: nbformat.NotebookNode) -> str:
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def test_few_cells_are_left_out_of_the_comparison(twin):
    cells = code(twin)
    live = [cell for cell in cells if "live" in cell.metadata.get("tags", [])]  # pictures, which the browser tests try
    ignored = [cell for cell in cells if PASSED_OVER & set(cell.metadata.get("tags", []))]
    passed_over = [cell for cell in ignored if cell not in live]
    compared = [cell for cell in cells if cell.outputs and cell not in ignored]
    assert len(passed_over) <= max(1, 0.1 * len(compared))
    print(f"{len(compared)} cells with outputs are compared, {len(passed_over)} passed over")


def test_every_chapter_checks_what_its_paper_says(site):
    for key in KEYS:
        notebook = nbformat.read(ROOT / f"{page_of(key)}.ipynb", as_version=4)
        checks = sum(bool(re.search(r"\bcheck(?:_counts)?\(", cell.source)) for cell in code(notebook))
        assert checks >= LEAST[form_of(key)]["checks"], (key, checks)


def test_no_cell_of_a_chapter_is_lost_on_the_way(site):
    """A fence that is not closed swallows the cells after it without a word."""
    for key in NOTEBOOKS:
        kept = code(nbformat.read(ROOT / f"{page_of(key)}.ipynb", as_version=4))[1:]
        written = code_cells((ROOT / f"{page_of(key)}.md").read_text(encoding="utf-8"))
        assert [cell.source.strip() for cell in kept] == [cell.strip() for cell in written], key


def test_a_verdict_is_shown_for_every_claim_that_is_run(twin):
    for cell in code(twin):
        found = list(calls(re.sub(r"(?m)^\s*%.*$", "pass", cell.source)))
        counted = [claim_id for claim_id in found if find(claim_id).counts]  # they stand in one table
        said = [o.get("data", {}).get("text/markdown", "") for o in cell.outputs]
        verdicts = [line for line in said if line.startswith(tuple(MARKS.values()))]
        assert len(verdicts) == len(found) - len(counted), cell.source
        tables = [o.data["text/plain"] for o in cell.outputs if "as printed" in o.get("data", {}).get("text/html", "")]
        assert sum(table.count(mark) for table in tables for mark in MARKS.values()) == len(counted), cell.source


def test_outputs_are_text_without_errors_warnings_or_machine_addresses(twin):
    for cell in code(twin):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
            assert not [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            assert not re.search(r"0x[0-9a-f]{8}|/home/|/tmp/|/Users/", json.dumps(output)), cell.source


def test_what_a_cell_prints_is_one_output(twin):
    """The kernel may send it in several; a twin that keeps the cuts differs from build to build."""
    for cell in code(twin):
        streams = [o.get("name") if o.output_type == "stream" else None for o in cell.outputs]
        assert not [a for a, b in pairwise(streams) if a and a == b], cell.source


def test_no_raw_myst_is_left(twin):
    text = prose(twin)
    assert re.findall(r"\{[\w:-]+\}`|^:::|^```\{|^\([\w:-]+\)=|\]\([\w/]+\.md", text, flags=re.MULTILINE) == []


def test_the_first_cell_installs_in_colab_and_nowhere_else(twin):
    first = code(twin)[0].source
    assert twin.cells[0].source == first
    install = next(line for line in first.splitlines() if "pip install" in line)
    assert install.startswith("    ")
    assert 'if "google.colab" in sys.modules:' in first
    assert "torch=={torch.__version__}" in install, "Colab's own torch is pinned, so that it stays"


def test_the_page_does_not_show_the_install_cell(site):
    pages = {key: (site / f"{page_of(key)}.html").read_text(encoding="utf-8") for key in NOTEBOOKS}
    assert [key for key, page in pages.items() if "google.colab" in page] == []


def nbval(folder: Path, *notebooks: str, **environment: str) -> subprocess.CompletedProcess[str]:
    options = ["--nbval", "--nbval-sanitize-with", APPROXIMATE, "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *notebooks],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_notebook_works_alone_in_an_empty_folder(site, tmp_path):
    shutil.copy(ROOT / "book/chapters/self_attention.ipynb", tmp_path)
    run = nbval(tmp_path, "self_attention.ipynb")
    assert run.returncode == 0, run.stdout[-3000:]


def test_a_changed_constant_in_the_package_makes_the_comparison_fail(site, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    module = tmp_path / "src/attention_notes/papers/self_attention/model.py"
    text = module.read_text(encoding="utf-8")
    assert "scale: float = 1.0" in text
    module.write_text(text.replace("scale: float = 1.0", "scale: float = 1.1"), encoding="utf-8")
    shutil.copy(ROOT / "book/chapters/self_attention.ipynb", tmp_path)
    run = nbval(tmp_path, "-x", "self_attention.ipynb", PYTHONPATH=str(tmp_path / "src"))
    assert run.returncode == 1, run.stdout[-3000:]
    assert "failed" in run.stdout


def test_what_stands_behind_a_chapter():
    package = ROOT / "src/attention_notes"
    behind = {
        chapter.stem: {file.as_posix().removeprefix(f"{package}/") for file in files_behind(chapter, ROOT)}
        for chapter in CHAPTERS
    }
    assert not [name for files in behind.values() for name in files if name.endswith((".js", ".css"))], (
        "carried by none"
    )
    assert {"papers/swin/model.py", "papers/swin/facts.yml", "papers/swin/checkpoints.yml"} <= behind["zoo"]
    assert "papers/swin/model.py" not in behind["vit"] | behind["transformer"] | behind["layer_norm"]
    assert {"weights/layouts.py", "papers/vit/weights.py", "papers/vit/geometry.py"} <= behind["vit"]
