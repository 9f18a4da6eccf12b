"""``make cuda``: its logic, tried on the CPU, for no machine here has a GPU."""

import json
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cuda
from benchmarks.cases import CASES

ROOT = Path(__file__).resolve().parents[2]
ROW = {"name": "ViT-B/16", "dtype": "float32", "compiled": False, "batch": 1, "device": "cpu"}


def found(**more) -> dict:
    """What a run without any fault has found."""
    return {
        "left out": [],
        "machine": {"device": "a GPU", "versions": {"torch": "2.13.0"}},
        "contract": {"passed": 3, "skipped": 1, "failures": 0, "failed": []},
        "notebooks": {
            "vit": {"checks": 30, "contradicted": [], "outside": [], "trained": ["a: b 1"], "error": "", "seconds": 9}
        },
        "compiling failed": [],
        "kernels": [{**ROW, "kernels": ["flash_attention"]}],
        "ratios": [{**ROW, "ratio": [1.25, 1.2, 1.3], "seconds": 0.1}],
    } | more


def options(tmp_path, **more) -> Namespace:
    given = {"device": "cpu", "minutes": 1.0, "out": tmp_path / "found.json", "models": ["ViT-B/16"], "notebooks": []}
    return Namespace(**given, tests="", seconds=0.1, batch=1, jobs=2, one=None, **more)


def test_a_run_on_a_machine_without_the_device_says_so_and_stops(tmp_path, capsys):
    run = cuda.Run(Namespace(**{**vars(options(tmp_path)), "device": "cuda"}))
    run.part = lambda *_, **__: {"device": ""}
    assert run.all() == 2
    assert "no cuda device here" in capsys.readouterr().err


def test_the_whole_command_runs_on_a_cpu(tmp_path):
    """The same code but for the device: one test of the contract, one notebook, one model."""
    out = tmp_path / "found.json"
    command = [
        sys.executable,
        "benchmarks/cuda.py",
        "--device",
        "cpu",
        "--out",
        str(out),
        "--minutes",
        "8",
        "--jobs",
        "2",
    ]
    command += [
        "--tests",
        "deterministic and cbam",
        "--notebooks",
        "performance",
        "--models",
        "--seconds",
        "0.1",
        "--batch",
        "1",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert run.returncode == 0, run.stdout + run.stderr
    assert kept["contract"] == {"passed": 1, "skipped": 0, "failures": 0, "failed": []}
    assert kept["notebooks"]["performance"]["error"] == ""
    assert kept["machine"]["versions"]["torch"]
    assert "contract: 1 passed" in run.stdout
    assert [*tmp_path.iterdir()] == [out]


def test_a_ratio_and_the_kernels_are_found_as_in_the_comparison(monkeypatch):
    """One small case through the parts that time: equal first, then pair by pair."""
    monkeypatch.setitem(CASES, "Non-local block", replace(CASES["Non-local block"], shape=(256, 6, 5)))
    case = {"name": "Non-local block", "dtype": "float32", "compiled": False, "batch": 1, "device": "cpu"}
    assert cuda.kernels(**case) == {"kernels": ["flash_attention_for_cpu"]}
    row = cuda.ratio(**case, seconds=0)
    assert row["apart"] < 1e-5
    assert len(row["ratio"]) == 3
    assert cuda.warm(**case) == {}


def test_a_notebook_reports_what_its_checks_came_to(tmp_path, monkeypatch):
    cells = [
        "import sys  # installs",
        "from attention_notes.claims import above, check, claims, equal\n"
        "trained = next(c for c in claims().values() if c.verdict == 'holds here')\n"
        "exact = next(c for c in claims().values() if c.kind == 'exact' and c.verdict == 'holds')",
        "check(trained.id, above('gain', -1e9, 0))\ncheck(exact.id, equal('rows', 1, 2))",
        "raise ValueError('so far and no further')",
    ]
    (tmp_path / "book/chapters").mkdir(parents=True)
    notebook = {"cells": [{"cell_type": "code", "source": source} for source in cells]}
    (tmp_path / "book/chapters/some.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    program = (
        "import sys, json; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from benchmarks import cuda\n"
        "import attention_notes.claims as c; known = c.claims(); cuda.ROOT = Path(sys.argv[2])\n"
        "c.claims = lambda key=None: known; print(json.dumps(cuda.notebook('some')))"
    )
    words = [sys.executable, "-c", program, str(ROOT), str(tmp_path)]
    page = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert page["checks"] == 2
    assert "rows 1 (not 2)" in page["contradicted"][0]
    assert "gain -1e9" in page["outside"][0].replace("-1,000,000,000", "-1e9")
    assert "ValueError: so far and no further" in page["error"]


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("contract", {"failed": ["test_x[vit]"], "passed": 1, "skipped": 0, "failures": 1}, "contract: test_x[vit]"),
        ("contract", {"error": "not done after 9 s"}, "contract: not done after 9 s"),
        ("notebooks", {"vit": {"error": "cell 3 raised"}}, "vit: cell 3 raised"),
        ("notebooks", {"vit": {"contradicted": ["a: b 1 (not 2)"]}}, "vit: a: b 1 (not 2)"),
        ("compiling failed", ["no compiler"], "compiling: no compiler"),
        ("kernels", [{**ROW, "error": "no"}], "ViT-B/16, float32: no"),
        ("ratios", [{**ROW, "error": "not the same model"}], "ViT-B/16, float32: not the same model"),
    ],
)
def test_what_failed_is_named_and_a_trained_value_is_no_failure(part, value, problem):
    assert cuda.failures(found()) == []
    assert cuda.failures(found(notebooks={"vit": {"outside": ["a: b 1"]}})) == []
    assert cuda.failures(found(**{part: value})) == [problem]


def test_the_report_gives_kernels_ratios_and_values_beside_their_records():
    said = cuda.lines(found())
    assert "  a: b 1" in said
    assert "ViT-B/16, float32, eager: flash_attention" in said
    assert "ViT-B/16, float32, eager: timm takes 1.25 [1.20, 1.30] times as long" in said


def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path):
    run = cuda.Run(options(tmp_path))
    run.until = time.monotonic() + 1
    assert run.part("ratio", 60, **ROW)["error"] == "no time was left"
    assert run.found["left out"] == ["ratio ViT-B/16"]
    run.until = time.monotonic() + 6
    assert "not done after" in run.part("machine", 0.01, device="cpu")["error"]


def test_a_part_that_ends_in_an_error_gives_its_words(tmp_path):
    assert (
        "no-such-device"
        in cuda.Run(options(tmp_path)).part("kernels", 60, **{**ROW, "device": "no-such-device"})["error"]
    )


def test_the_file_is_whole_at_any_time(tmp_path, monkeypatch):
    run = cuda.Run(options(tmp_path))
    run.keep("machine", {"device": "a GPU"})
    before = run.given.out.read_text(encoding="utf-8")

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(cuda.json, "dumps", full)
    with pytest.raises(OSError, match="disk full"):
        run.keep("contract", {})
    assert run.given.out.read_text(encoding="utf-8") == before


def test_wheels_that_were_brought_along_are_found_by_the_parts(tmp_path, monkeypatch):
    wheel = tmp_path / "brought-1.0-py3-none-any.whl"
    import zipfile

    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("brought.py", "HERE = 1\n")
        file.writestr("brought-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
        file.writestr("brought-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("brought-1.0.dist-info/RECORD", "")
    monkeypatch.setattr(cuda, "WHEELS", tmp_path)
    environment = cuda.equipped({"PATH": ""})
    words = [sys.executable, "-c", "import brought, attention_notes, benchmarks; print(brought.HERE)"]
    assert subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout == "1\n"
