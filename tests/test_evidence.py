"""Trained statements are held to their records, records to the code that they ran, and the recorder loses nothing."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import evidence
import pytest
from executed import sliced
from executed.closure import code_cells
from executed.rooms import executed_files

from attention_notes.claims import ClaimError

ROOT = Path(__file__).resolve().parent.parent
KEYS = evidence.recorded_keys()


@pytest.mark.parametrize("key", KEYS)
def test_the_record_bears_every_trained_statement_and_is_of_this_code(key):
    assert evidence.lacking(key) == []


def test_no_record_is_left_of_a_chapter_that_trains_nothing():
    recorded = {file.parent.name for file in evidence.PAPERS.glob("*/evidence.json")}
    assert recorded == {*KEYS}


@pytest.mark.parametrize("chapter", executed_files(ROOT), ids=lambda path: path.stem)
def test_no_measurement_is_typed_by_hand(chapter):
    calls = [
        node
        for cell in code_cells(chapter.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "check"
    ]
    assert [ast.unparse(call) for call in calls if "measured" in [keyword.arg for keyword in call.keywords]] == []


@pytest.mark.parametrize("chapter", executed_files(ROOT), ids=lambda path: path.stem)
def test_a_chapter_asserts_nothing_beside_its_checks(chapter):
    """An assertion that fails on another machine would leave the page without its rest."""
    cells = code_cells(chapter.read_text(encoding="utf-8"))
    assert [line for cell in cells for line in cell.splitlines() if line.strip().startswith("assert ")] == []


CELLS = """\
import torch
from attention_notes.nn.mlp import MLP
from attention_notes.chapters.train import fit, start
device = start(seed=0)
---
x = torch.randn(3, 4)
unused = x.sum()
---
def score(model):
    return model(data_).mean()
---
data_ = torch.ones(2, 4)
---
model = torch.nn.Linear(4, 4)
other = torch.nn.Linear(4, 4)
---
losses = fit(model, score)
---
fit(other, score)
---
print("a word", unused)
---
model.eval()
---
check("some-gain", above("gain", score(model), 0.2))
---
model = None
"""


@pytest.fixture
def some(monkeypatch):
    """A chapter of the cells above, whose one check is of a trained statement."""
    trained = SimpleNamespace(id="some-gain", kind="trained")
    monkeypatch.setattr(sliced, "claims", lambda key: {"some-gain": trained})
    return page(CELLS)


def page(cells: str) -> str:
    return "".join(f"```{{code-cell}}\n{cell}```\n\n" for cell in cells.split("---\n"))


def test_the_slice_holds_what_a_trained_statement_needs_and_no_more(some):
    kept = [cell.splitlines()[0] for cell in sliced.needed_cells("some", some)]
    assert kept == [
        "import torch",
        "def score(model):",
        "data_ = torch.ones(2, 4)",
        "model = torch.nn.Linear(4, 4)",
        "losses = fit(model, score)",
        "model.eval()",
        'check("some-gain", above("gain", score(model), 0.2))',
    ]


def test_a_cell_that_draws_for_a_name_that_is_bound_anew_is_left_out(some):
    text = page("x = draw(1)\n---\nx = draw(2)\n---\ncheck('some-gain', above('gain', x, 0))\n")
    assert sliced.needed_cells("some", text)[0] == "x = draw(2)\n"


def test_bounds_are_read_as_they_are_written(some):
    assert sliced.trained_bounds("some", some) == {"some-gain": {"gain": (0.2, float("inf"))}}
    for mistaken in ("above(name, x, 0)", "above('gain', x, bound)", "true('it is so', x)"):
        with pytest.raises(ClaimError, match=r"some-gain is trained: (write names|pass above)"):
            sliced.trained_bounds("some", page(f"check('some-gain', {mistaken})\n"))


PACKAGE = {
    "__init__.py": "",
    "parts/__init__.py": "",
    "parts/part.py": (
        '"""A part."""\n\nimport math\n\nfrom attention_notes.parts.other import helper\n\nSIZE = 3\n\n\n'
        'class Part:\n    """What it does."""\n\n    def run(self, x: int) -> float:\n'
        '        """A sentence."""\n        # a comment\n        return helper(x) + SIZE + math.pi\n\n\n'
        "def unused():\n    return 1\n"
    ),
    "parts/other.py": "def helper(x):\n    return x + 1\n",
    "chapters/__init__.py": "",
    "chapters/data.py": "def text():\n    return open('text.txt')\n",
    "chapters/text.txt": "real words\n",
    "chapters/plots.py": "def lines(x):\n    return x\n",
}
SLICE = [
    "from attention_notes.chapters import data, plots\nfrom attention_notes.parts.part import Part\n",
    "part = Part()\nx = data.text()\n",
    "_ = plots.lines(part)\nprint(x)\ncheck('some-gain', above('gain', part.run(x), 0.2))\n",
]


@pytest.fixture
def package(tmp_path) -> Path:
    for name, text in PACKAGE.items():
        file = tmp_path / "src/attention_notes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def edit(root: Path, name: str, old: str, new: str) -> None:
    file = root / "src/attention_notes" / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    sliced._module.cache_clear()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("parts/part.py", "SIZE = 3", "SIZE = 4"),
        ("parts/part.py", "+ math.pi", "- math.pi"),
        ("parts/other.py", "x + 1", "x + 2"),
        ("chapters/text.txt", "real", "other"),
    ],
)
def test_a_record_is_stale_when_what_it_ran_has_changed(package, name, old, new):
    before = sliced.code_hash(SLICE, package)
    edit(package, name, old, new)
    assert sliced.code_hash(SLICE, package) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("parts/part.py", "A sentence.", "Another sentence."),
        ("parts/part.py", "# a comment", "# another comment"),
        ("parts/part.py", "x: int) -> float", "x)"),
        ("parts/part.py", "return 1", "return 2"),
        ("chapters/plots.py", "return x", "return -x"),
    ],
)
def test_a_record_is_not_stale_when_nothing_that_it_ran_has_changed(package, name, old, new):
    before = sliced.code_hash(SLICE, package)
    edit(package, name, old, new)
    assert sliced.code_hash(SLICE, package) == before


def test_a_record_stays_valid_when_code_moves(package):
    before = sliced.code_hash(SLICE, package)
    house = package / "src/attention_notes"
    (house / "nn").mkdir()
    (house / "nn/__init__.py").touch()
    shutil.move(house / "parts/other.py", house / "nn/moved.py")
    edit(package, "parts/part.py", "from attention_notes.parts.other import helper", "from ..nn.moved import helper")
    shutil.move(house / "parts/part.py", house / "nn/part.py")
    cells = [SLICE[0].replace("parts.part", "nn.part"), *SLICE[1:]]
    assert sliced.code_hash(cells, package) == before


def test_a_bound_may_change_without_a_new_recording_and_a_cell_may_not(package):
    before = sliced.code_hash(SLICE, package)
    looser = [*SLICE[:2], SLICE[2].replace("0.2", "0.1").replace("print(x)\n", "")]
    assert sliced.code_hash(looser, package) == before
    assert sliced.code_hash([SLICE[0], SLICE[1].replace("Part()", "Part(2)"), SLICE[2]], package) != before


def test_the_hash_is_the_same_under_every_python(package):
    """Syntax trees differ in their empty fields; what is hashed does not."""
    program = (
        "import sys, pathlib; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from executed import sliced; print(sliced.code_hash(eval(sys.argv[3]), pathlib.Path(sys.argv[4])))"
    )
    hashes = {sliced.code_hash(SLICE, package)}
    for other in ("python3.12", "python3.13"):
        if shutil.which(other) is None:
            continue
        words = [
            other,
            "-c",
            _STUBS + program,
            str(ROOT / "book/_ext"),
            str(package / "none"),
            repr(SLICE),
            str(package),
        ]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            hashes.add(run.stdout.strip())
    assert len(hashes) == 1


# What ``sliced`` imports from packages that another Python may not have; none of it is used for the hash.
_STUBS = """
import sys, types
for name, given in {"attention_notes.claims": {"ClaimError": ValueError, "calls": None, "claims": None}}.items():
    sys.modules["attention_notes"] = types.ModuleType("attention_notes")
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(given)
package = types.ModuleType("executed")
package.__path__ = [sys.argv[1] + "/executed"]
sys.modules["executed"] = package
"""


@pytest.fixture
def recorder(monkeypatch, tmp_path):
    """The recorder with two runs of one chapter, which are not executed."""
    (tmp_path / "some").mkdir()
    monkeypatch.setattr(evidence, "PAPERS", tmp_path)
    monkeypatch.setattr(evidence, "RUNS", [("native", 0), ("AVX2", 4000)])
    monkeypatch.setattr(evidence, "REPEATED", [("native", 0)])
    monkeypatch.setattr(evidence, "recorded_keys", lambda: ["some"])
    monkeypatch.setattr(evidence, "current_hash", lambda key: "now")
    monkeypatch.setattr(evidence, "lacking", lambda key: [])
    monkeypatch.setattr(evidence, "count_trained", lambda keys: 1)
    done = []

    def child(key, instructions, shift, mark):
        done.append((instructions, shift))
        values = {"some-gain": {"gain": 0.3 if mark in ("now", "moved") else 0.3 + 1e-9}}
        told = {"instructions": instructions, "shift": shift, "code": mark, "seconds": 1, "kernels": "AVX2"}
        return {**told, "values": values}

    monkeypatch.setattr(evidence, "child", child)
    return done


def test_the_recorder_goes_on_where_it_stopped_and_repeats_what_is_stale(recorder, monkeypatch, capsys):
    assert evidence.record(["some"], 1) == 0
    assert recorder == [("native", 0), ("AVX2", 4000)]
    assert evidence.record(["some"], 1) == 0
    assert len(recorder) == 2, "nothing is repeated"
    evidence.write("some", evidence.read("some")[:1])
    assert evidence.record([], 1) == 0
    assert recorder[2:] == [("AVX2", 4000)]
    assert "2/2  some  AVX2  +4000  1 s" in capsys.readouterr().out, "progress"


def test_other_code_that_computes_the_same_to_the_last_digit_leaves_the_other_runs_as_they_are(
    recorder, monkeypatch, capsys
):
    assert evidence.record(["some"], 1) == 0
    monkeypatch.setattr(evidence, "current_hash", lambda key: "moved")
    assert evidence.record(["some"], 1) == 0
    assert recorder[2:] == [("native", 0)]
    assert "the others stand" in capsys.readouterr().out
    assert [(run["code"], run["shift"]) for run in evidence.read("some")] == [("moved", 0), ("moved", 4000)]


def test_a_run_with_kernels_that_this_machine_has_not_stands_where_the_others_repeat(recorder, monkeypatch):
    both = [("native", 0), ("AVX2", 0)]
    monkeypatch.setattr(evidence, "RUNS", both)
    monkeypatch.setattr(evidence, "REPEATED", both)
    evidence.record(["some"], 1)
    native, other = evidence.read("some")
    wide = {**native, "kernels": "AVX512", "values": {"some-gain": {"gain": 0.4}}}
    evidence.write("some", [wide, other])
    monkeypatch.setattr(evidence, "current_hash", lambda key: "moved")
    assert evidence.record(["some"], 1) == 0
    assert recorder[2:] == both
    assert evidence.read("some") == [{**wide, "code": "moved"}, {**other, "code": "moved"}]


@pytest.mark.parametrize("others", [2, 1])
def test_a_machine_that_chooses_other_kernels_by_itself_repeats_what_it_is_told_to(recorder, monkeypatch, others):
    every = [("native", 0), ("AVX2", 0), ("SSE4", 0)]
    monkeypatch.setattr(evidence, "RUNS", every)
    monkeypatch.setattr(evidence, "REPEATED", every)
    run, wider = evidence.child, {"native": "AVX512", "AVX2": "AVX2", "SSE4": "DEFAULT"}

    def child(key, instructions, shift, mark):
        return run(key, instructions, shift, mark) | {"kernels": wider[instructions]}

    monkeypatch.setattr(evidence, "child", child)
    evidence.record(["some"], 1)
    narrow = [one | {"kernels": ["SVE", "AVX2", "DEFAULT"][i]} for i, one in enumerate(evidence.read("some"))]
    narrow[2]["kernels"] = "DEFAULT" if others == 2 else "VSX"  # fewer than two would say too little
    evidence.write("some", narrow)
    monkeypatch.setattr(evidence, "current_hash", lambda key: "moved")
    assert evidence.record(["some"], 1) == 0
    stood = [one["kernels"] for one in evidence.read("some")] == ["SVE", "AVX2", "DEFAULT"]
    assert stood == (others == 2)
    assert {one["code"] for one in evidence.read("some")} == {"moved"}


def test_of_a_statement_that_is_dropped_nothing_is_kept_and_the_other_runs_stand(recorder, monkeypatch):
    evidence.record(["some"], 1)
    more = [{**run, "values": {**run["values"], "some-other": {"loss": 2.0}}} for run in evidence.read("some")]
    evidence.write("some", more)
    monkeypatch.setattr(evidence, "current_hash", lambda key: "moved")
    assert evidence.record(["some"], 1) == 0
    assert recorder[2:] == [("native", 0)]
    assert [[*run["values"]] for run in evidence.read("some")] == [["some-gain"]] * 2


def test_other_code_that_computes_something_else_is_recorded_anew(recorder, monkeypatch, capsys):
    assert evidence.record(["some"], 1) == 0
    monkeypatch.setattr(evidence, "current_hash", lambda key: "later")
    assert evidence.record(["some"], 1) == 0
    assert recorder[2:] == [("native", 0), ("AVX2", 4000)]
    assert "the others stand" not in capsys.readouterr().out
    assert {run["code"] for run in evidence.read("some")} == {"later"}


def test_a_run_that_fails_is_named_and_leaves_the_others(recorder, monkeypatch, capsys, tmp_path):
    child = evidence.child
    monkeypatch.setattr(evidence, "child", lambda *a: "no memory" if a[1] == "AVX2" else child(*a))
    assert evidence.record(["some"], 1) == 1
    assert "some  AVX2  +4000  failed: no memory" in capsys.readouterr().out
    assert [run["instructions"] for run in evidence.read("some")] == ["native"]
    assert [file.name for file in (tmp_path / "some").iterdir()] == ["evidence.json"]


def test_a_record_is_written_whole_or_not_at_all(recorder, monkeypatch):
    evidence.write("some", [{"instructions": "native", "shift": 0}])
    before = (evidence.PAPERS / "some/evidence.json").read_text(encoding="utf-8")

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(evidence.json, "dumps", full)
    with pytest.raises(OSError, match="disk full"):
        evidence.write("some", [{"instructions": "AVX2", "shift": 4000}])
    assert (evidence.PAPERS / "some/evidence.json").read_text(encoding="utf-8") == before


def test_an_unknown_chapter_is_refused(recorder, capsys):
    assert evidence.record(["somme"], 1) == 2
    assert "no trained statements in somme; known: some" in capsys.readouterr().err


def test_every_seed_is_shifted_in_the_recorders_own_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import evidence, random, torch, numpy as np\n"
        "evidence.shift_seeds(int(sys.argv[2]))\n"
        "g = torch.Generator().manual_seed(3); torch.manual_seed(3); np.random.seed(3); random.seed(3)\n"
        "print(g.initial_seed(), torch.initial_seed(), np.random.rand(), random.random(), random.Random(3).random())"
    )

    def seeds(shift: int) -> list[str]:
        words = [sys.executable, "-c", program, str(ROOT / "book"), str(shift)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout.split()

    at_home, away = seeds(0), seeds(1000)
    assert at_home[:2] == ["3", "3"]
    assert away[:2] == ["1003", "1003"]
    assert [a for a, b in zip(at_home, away, strict=True) if a == b] == []


def test_a_recorded_run_is_that_of_the_chapter_itself(tmp_path):
    """One real run of the cheapest chapter: its values are those that the page's checks are given."""
    recorded = {key: sum(run["seconds"] for run in evidence.read(key)) for key in KEYS if evidence.read(key)}
    key = min(recorded, key=recorded.__getitem__)
    file = tmp_path / "run.json"
    words = [sys.executable, str(ROOT / "book/evidence.py"), "--one", key, str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    subprocess.run(words, check=True, capture_output=True, env=environment)
    run = json.loads(file.read_text(encoding="utf-8"))
    bounds = sliced.trained_bounds(key, evidence.chapter(key))
    assert {claim: {*values} for claim, values in run["values"].items()} == {c: {*b} for c, b in bounds.items()}
