"""The harness: the order of samples, ratios and intervals, memory, equality first, and the quick check."""

import gc
import itertools
import json
import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from attention_notes.papers.pvt import pvt
from benchmarks import __main__ as command
from benchmarks import compare as comparing
from benchmarks import decoding, peers, timing, training
from benchmarks.cases import CASES, INFERENCE, TRAINING
from benchmarks.compare import Setting, compare, pair, settings
from benchmarks.decoding import decode
from benchmarks.growth import FORMS, exponent, grow
from benchmarks.timing import Clock, across, interleaved, interval, peak_memory, ratio

CPU = torch.device("cpu")
LIMITS = {"operations": 1e11, "bytes": 1e10}
BLOCKS = [name for name in CASES if name.startswith(("Non-local", "DNL"))]


@pytest.fixture(autouse=True)
def threads_as_before():
    """A comparison sets how many there are."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ticking(monkeypatch):
    """A clock that only moves when a work says so."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.gc, "collect", lambda: 0)  # what takes a second of the true clock in a large process
    return now


def test_a_round_goes_there_and_back_and_each_begins_with_another_work(ticking):
    order = []

    def work(name, seconds):
        def run():
            order.append(name)
            ticking[0] += seconds

        return run

    works = {"a": work("a", 1.0), "b": work("b", 2.0), "c": work("c", 4.0)}
    samples = interleaved(works, Clock(CPU), rounds=3)
    assert "".join(order[6:]) == "abccba" + "bcaacb" + "cabbac"  # six calls before, to count repeats
    assert samples == {"a": [1.0] * 6, "b": [2.0] * 6, "c": [4.0] * 6}
    assert ratio(samples["c"], samples["a"]) == (4.0, 4.0, 4.0)


def test_what_drifts_falls_on_all_alike(ticking):
    speed = [1.0]

    def work():
        ticking[0] += speed[0]
        speed[0] *= 1.01

    samples = interleaved({"a": work, "b": work}, Clock(CPU), rounds=8)
    assert abs(ratio(samples["b"], samples["a"]).median - 1) < 2e-4  # there alone it would be 1e-2


def test_it_ends_with_the_time_but_not_before_the_fourth_round(ticking):
    def work():
        ticking[0] += 1.0

    assert len(interleaved({"a": work}, Clock(CPU), rounds=50, seconds=0)["a"]) == 8
    assert len(interleaved({"a": work}, Clock(CPU), rounds=50, seconds=0, least=2)["a"]) == 4
    assert len(interleaved({"a": work}, Clock(CPU), rounds=50, seconds=20)["a"]) == 20


def test_a_quick_work_is_repeated_until_a_sample_lasts(ticking):
    def work():
        ticking[0] += 0.003

    assert Clock(CPU, least=0.02).repeats(work) == 7


def test_an_interval_holds_the_true_median_about_as_often_as_it_says():
    drawn = torch.Generator().manual_seed(0)
    held = [interval(torch.randn(15, generator=drawn).tolist()) for _ in range(300)]
    assert 0.88 < sum(low < 0 < high for _, low, high in held) / 300 <= 1.0
    assert interval([3.0] * 5) == (3.0, 3.0, 3.0)


def test_an_interval_across_processes_holds_what_sets_them_apart():
    narrow = [[middle + i / 10_000 for i in range(-9, 10)] for middle in (0.97, 1.0, 1.02)]
    median, low, high = across(narrow)
    assert (median, low, high) == (1.0, pytest.approx(0.97, abs=1e-3), pytest.approx(1.02, abs=1e-3))
    alone = interval([value for process in narrow for value in process])
    assert alone.high - alone.low < 0.003, "pairs taken for independent say that they know more"
    assert across([[0.9, 1.0, 1.1, 1.2]]).median == interval([0.9, 1.0, 1.1, 1.2]).median
    drawn = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        middles = torch.randn(9, 1, generator=drawn)
        _, low, high = across((middles + 0.1 * torch.randn(9, 4, generator=drawn)).tolist())
        held += low < 0 < high
    assert 0.85 < held / 200 <= 1.0


def test_a_row_is_of_several_processes_and_only_the_first_of_a_pair_looks_inside(monkeypatch):
    asked = []

    def alone(work, name, other, setting, *, seconds, least, keeping, inside):
        asked.append((other, seconds, least, keeping, inside))
        return {
            "pairs": 4,
            "quotients": [len(asked)] * 4,
            "seconds": 1.0,
            "memory": 1 if inside else None,
            "profile": {},
            "apart": 0,
        }

    monkeypatch.setattr(comparing, "in_its_own_process", alone)
    setting = Setting(INFERENCE, 1, 1, "float32", kept=True)
    row = compare("DNL block", setting, peers=["the equations"], limits=LIMITS, seconds=6)
    assert asked == [(other, 2.0, 2, True, i == 0) for other in ("the equations", "ours again") for i in range(3)]
    assert (row["ratios"]["the equations"][0], row["control"][0]) == (2, 5)
    assert row["memory"] == {"ours": 1, "the equations": 1}


def test_peak_memory_is_what_is_held_at_once_and_not_what_was_asked_for_in_total():
    def one_after_the_other():
        for _ in range(5):
            torch.empty(1000, 1000)

    def at_once():
        return [torch.empty(1000, 1000) for _ in range(5)]

    assert 4e6 <= peak_memory(one_after_the_other, CPU) < 5e6
    assert 20e6 <= peak_memory(at_once, CPU) < 21e6


class _Event:
    """Stands in for CUDA's: time is what the works say it is."""

    now = 0.0

    def __init__(self, enable_timing):
        self.at = math.nan

    def record(self):
        self.at = _Event.now

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 1000 * (other.at - self.at)


def test_on_cuda_time_lies_between_events_and_the_cache_is_flushed_before(monkeypatch):
    flushed = []
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    clock = Clock(CPU)
    clock.events, clock.flushed = True, type("Flushed", (), {"zero_": lambda self: flushed.append(1)})()

    def work():
        _Event.now += 0.25

    assert clock.once(work, 3) == pytest.approx(0.25)
    assert flushed == [1]
    samples = interleaved({"a": work, "b": work}, clock, rounds=2)
    assert samples["a"] == pytest.approx([0.25] * 4)


def test_settings_name_threads_on_a_cpu_and_numbers_and_compilation_on_cuda():
    case = CASES["Swin-T"]
    assert set(settings(case, CPU, 2)) >= {
        Setting(INFERENCE, 8, 2, "float32"),
        Setting(INFERENCE, 1, 1, "float32"),
        Setting(TRAINING, 8, 2, "float32"),
        Setting(INFERENCE, 8, 2, "float32", kept=True),
        Setting(INFERENCE, 8, 2, "float32", chunked=True),
        Setting(INFERENCE, 8, 2, "float32", kept=True, chunked=True),
        Setting(INFERENCE, 8, 2, "float32", compiled=True),
    }
    assert not any(s.chunked for s in settings(CASES["DNL block"], CPU, 2))
    cuda = set(settings(case, torch.device("cuda"), 2))
    assert {(s.dtype, s.compiled) for s in cuda} == {(d, c) for d in ("float32", "bfloat16") for c in (False, True)}
    assert all(s.threads is None for s in cuda)
    each = sorted((s.work, s.compiled, s.batch) for s in settings(CASES["TNT-S"], CPU, 2))
    assert each == [*itertools.product((INFERENCE, TRAINING), (False, True), (1, 8))]


@pytest.fixture
def small(monkeypatch):
    """The blocks on few pixels, every process this one, and samples of one call: what they take is not looked at."""
    gc.freeze()  # what is there already is no garbage: the harness searches for it after every round
    monkeypatch.setattr(Clock, "repeats", lambda self, work: 1)
    for name in BLOCKS:
        monkeypatch.setitem(CASES, name, replace(CASES[name], shape=(256, 6, 5), quick=1))

    def here(work, *arguments, keeping=False, **named):
        return work(*arguments, **{**named, "rounds": 2})

    for module in (command, comparing):
        monkeypatch.setattr(module, "in_its_own_process", here)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("work", [INFERENCE, TRAINING])
def test_a_block_is_compared_with_its_peers(small, name, work):
    setting, others = Setting(work, 1, 1, "float32"), [*CASES[name].peers]
    row = compare(name, setting, peers=others, limits=LIMITS, seconds=0)
    assert [*row["ratios"]] == others
    assert row["pairs"] == 4 * comparing.PROCESSES
    assert row["share"] > 0
    assert 0 <= row["apart"] < 1e-5
    assert row["memory"].keys() == {"ours", *others}
    assert all(value > 0 for value in row["memory"].values())
    json.dumps(row)


def test_in_chunks_ours_holds_less_memory_and_is_itself_again_afterwards(small, monkeypatch):
    tiny = partial(pvt, "pvt_tiny", depths=(1, 1, 1, 1))
    monkeypatch.setitem(CASES, "small", replace(CASES["PVT-Small"], build=tiny))
    setting = Setting(INFERENCE, 4, 1, "float32")
    at_once, chunks = (
        compare("small", one, peers=[], limits=LIMITS, seconds=0) for one in (setting, setting._replace(chunked=True))
    )
    assert chunks["memory"]["ours"] < 0.7 * at_once["memory"]["ours"]
    assert (at_once["chunked"], chunks["chunked"]) == (False, True)


def test_a_peer_that_is_another_model_is_refused_before_anything_is_timed(monkeypatch):
    class Other(peers.LiteralDNL):
        def forward(self, x):
            return super().forward(x) * (1 + 1e-4)

    case = replace(CASES["DNL block"], peers={"other": Other}, shape=(256, 6, 5))
    monkeypatch.setitem(CASES, "DNL block", case)
    with pytest.raises(AssertionError, match="DNL block: other is not the same model"):
        pair("DNL block", "other", Setting(INFERENCE, 1, 1, "float32"), 0)


def test_on_a_cpu_all_peers_are_timed_on_all_threads_and_the_quickest_beside(monkeypatch):
    def compared(name, setting, *, peers, limits, seconds):
        three = dict.fromkeys(peers, (1.0, 1.0, 1.0))
        return {"case": name, **setting._asdict(), "seconds": 1.0, "share": 0.5, "pairs": 4, "ratios": three} | {
            "control": (1.0, 1.0, 1.0),
        }

    monkeypatch.setattr(command, "compare", compared)
    rows = [*command._rows("Non-local block", CPU, 2, {f"float32, {n} threads": LIMITS for n in (1, 2)}, seconds=0)]
    for row in rows:
        beside = row["threads"] == 1 or row["kept"] or row["chunked"]
        assert [*row["ratios"]] == (["mmcv"] if beside else ["mmcv", "timm"])
    assert any(row["compiled"] for row in rows)
    assert {row["work"] for row in rows if row["kept"]} == {INFERENCE}


SMALL = {"layers": 1, "vocabulary": 101}


@pytest.mark.parametrize("model", decoding.MODELS)
@pytest.mark.parametrize("beams", [1, 4])
def test_decoding_writes_the_same_tokens_as_transformers_and_as_pytorchs_layers_without_a_cache(
    model, beams, monkeypatch
):
    monkeypatch.setattr(decoding, "WRITTEN", 12)
    row = decode(CPU, model=model, batch=2, beams=beams, seconds=0, rounds=1, **SMALL)
    plain = {"nn.Transformer, no cache"} if (model, beams) == ("translation", 1) else set()
    assert row["ratios"].keys() == {"transformers"} | plain
    assert row["memory"].keys() == {"ours"} | row["ratios"].keys()
    assert min(row["memory"].values()) > 0
    assert row["tokens a second"] > 0
    assert row["column-major"] is None, "only of one text at a time"


@pytest.mark.parametrize("model", decoding.MODELS)
def test_one_text_is_also_written_with_weights_column_by_column(model, monkeypatch):
    monkeypatch.setattr(decoding, "WRITTEN", 4)
    row = decode(CPU, model=model, batch=1, beams=1, seconds=0, rounds=1, **SMALL)
    median, low, high = row["column-major"]
    assert 0 < low <= median <= high


def test_a_peer_that_writes_other_tokens_is_not_timed(monkeypatch):
    monkeypatch.setattr(decoding, "WRITTEN", 4)
    written = decoding._generate
    monkeypatch.setattr(decoding, "_generate", lambda *inputs: written(*inputs) + 1)
    with pytest.raises(AssertionError, match="not the same tokens"):
        decode(CPU, model="language", batch=1, beams=1, seconds=0, rounds=1, **SMALL)


def test_an_exponent_is_that_of_the_power():
    assert exponent([2, 4, 16], [3 * n**1.5 for n in (2, 4, 16)]) == pytest.approx(1.5)


def test_memory_grows_as_the_chapters_say(monkeypatch):
    monkeypatch.setattr(Clock, "repeats", lambda self, work: 1)  # the time is not looked at
    for form in FORMS:
        row = grow(form, CPU, memory=2**30, seconds=9, sides=(42, 56, 70), samples=1)
        assert abs(row["memory"] - row["claimed"]["memory"]) < 0.25, row


def test_a_form_that_does_not_fit_stops_where_it_would_not():
    small = {"memory": 2**20, "sides": (7, 14, 28)}
    assert grow("every pair, weights held", CPU, **small)["tokens"] == [49, 196]
    assert grow("every pair, fused kernel", CPU, **small)["tokens"] == [49, 196, 784]


@pytest.fixture
def recorded(tmp_path, small):
    row = {"case": "DNL block", **Setting(INFERENCE, 1, torch.get_num_threads(), "float32")._asdict()}

    def with_ratio(value):
        path = tmp_path / "cpu.json"
        rows = [{**row, "ratios": {"the equations": [value] * 3}, "control": [1.0, 0.9, 1.1]}]
        path.write_text(json.dumps({"rows": rows}))
        return ["--quick", "--device", "cpu", "--seconds", "0", "--only", "DNL block", "--results", str(path)]

    return with_ratio


def test_the_quick_check_fails_when_a_ratio_fell_and_passes_when_it_did_not(recorded, capsys):
    assert command.main(recorded(1e6)) == 1
    assert "slower than recorded: DNL block" in capsys.readouterr().out
    assert command.main(recorded(1e-6)) == 0
    assert "✓ DNL block" in capsys.readouterr().out


def test_the_quick_check_says_so_on_a_machine_of_another_make_or_instruction_set(recorded, capsys):
    here = command.machine(torch.device("cpu"))
    asked = recorded(1e-6)
    path = Path(asked[-1])
    for there, said in ((here, False), ({**here, "vectors": "VSX"}, True), ({**here, "device": "Abacus"}, True)):
        path.write_text(json.dumps({**json.loads(path.read_text()), "machine": there}))
        assert command.main(asked) == 0
        assert ("ratios are compared" in capsys.readouterr().out) is said


def test_a_ratio_fell_if_its_whole_interval_is_below_what_the_control_allows(recorded, monkeypatch, capsys):
    monkeypatch.setattr(command, "in_its_own_process", lambda *_: {"ratio": (1.0, 0.97, 1.04)})
    assert command.main(recorded(1.15)) == 0  # 1.15, less a tenth, is 1.035
    assert command.main(recorded(1.17)) == 1
    assert "takes 1.00 [0.97, 1.04] times as long, was 1.17 ± 10%" in capsys.readouterr().out


def test_a_row_can_be_had_from_a_process_of_its_own():
    assert comparing.in_its_own_process(platform.python_version) == platform.python_version()


def test_a_process_can_be_told_to_keep_what_is_freed_and_this_one_is_not():
    assert comparing.in_its_own_process(os.getenv, "GLIBC_TUNABLES", keeping=True) == comparing.KEEPING
    assert os.getenv("GLIBC_TUNABLES") != comparing.KEEPING


def test_from_a_shell_every_row_has_a_process_of_its_own(tmp_path):
    row = {"case": "DNL block", **Setting(INFERENCE, 2, torch.get_num_threads(), "float32")._asdict()}
    rows = [{**row, "ratios": {"the equations": [0.01] * 3}, "control": [1.0] * 3}]
    (tmp_path / "cpu.json").write_text(json.dumps({"rows": rows}))
    asked = ["--quick", "--device", "cpu", "--seconds", "0", "--only", row["case"]]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", *asked, "--results", str(tmp_path / "cpu.json")],
        capture_output=True,
        text=True,
        cwd=Path(command.__file__).parent.parent,
    )
    assert run.returncode == 0, run.stderr
    assert "✓ DNL block: the equations takes" in run.stdout


def test_the_quick_check_does_not_pass_when_nothing_could_be_compared(recorded, capsys):
    arguments = recorded(0.01)
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert command.main(arguments) == 1
    assert "nothing recorded for" in capsys.readouterr().out


def test_cases_that_are_measured_again_take_the_place_of_their_rows(tmp_path, monkeypatch):
    file, now = tmp_path / "record.json", {"day": 1}

    def measured(clock, names, *, seconds):
        rows = [{"case": name, "seconds": now["day"]} for name in names]
        found = {"date": now["day"], "minutes": 3, "rows": rows, "goals": {name: {} for name in names}, "growth": [1]}
        return command.provenance(CPU, 0) | found | {"limits": {"of": now["day"]}}

    monkeypatch.setattr(command, "measure", measured)
    shell = ["--device", "cpu", "--results", str(file)]
    for now["day"], names in ((1, [*CASES]), (2, ["TNT-S", "PVT-Small"]), (3, ["TNT-S"])):
        assert command.main([*shell, "--only", *names]) == 0
    found = json.loads(file.read_text())
    days = dict.fromkeys(CASES, 1) | {"PVT-Small": 2, "TNT-S": 3}
    assert [(row["case"], row["seconds"]) for row in found["rows"]] == [*days.items()]
    assert [(run["date"], run["cases"]) for run in found["since"]] == [(2, ["PVT-Small"]), (3, ["TNT-S"])]
    assert (found["date"], found["growth"]) == (1, [1])
    limits = [run["limits"]["of"] for run in (found, *found["since"])]
    assert limits == [1, 2, 3], "the share of a row is of the limit that its own run measured"


@pytest.mark.parametrize(("part", "value"), [("machine", {"device": "an abacus"}), ("versions", {"torch": "0.1"})])
def test_cases_measured_elsewhere_or_with_other_versions_are_not_joined(tmp_path, capsys, part, value):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(command.provenance(CPU, 0) | {part: value, "rows": [], "goals": {}}))
    with pytest.raises(SystemExit):
        command.main(["--device", "cpu", "--results", str(file), "--only", "TNT-S"])
    assert re.search(r"is of (an abacus|torch 0.1): measure all cases", capsys.readouterr().err)


def test_without_a_record_the_quick_check_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["--quick", "--device", "cpu", "--results", str(tmp_path / "cpu.json")])
    assert "nothing is recorded in" in capsys.readouterr().err


def test_everything_is_written_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results" / "cpu.json"
    monkeypatch.setattr(command, "measure", lambda *args, **options: {"rows": []})
    assert command.main(["--device", "cpu", "--results", str(path)]) == 0
    assert json.loads(path.read_text()) == {"rows": []}

    def fails(*args, **options):
        raise RuntimeError("no")

    monkeypatch.setattr(command, "measure", fails)
    with pytest.raises(RuntimeError):
        command.main(["--device", "cpu", "--results", str(path)])
    assert json.loads(path.read_text()) == {"rows": []}
    assert [p.name for p in path.parent.iterdir()] == ["cpu.json"]


def test_the_training_loop_is_timed_beside_bare_steps():
    """One round of each: the numbers are there, and a step of the loop is a step."""
    row = training.loop(torch.device("cpu"), batch=4, seconds=0.0, rounds=1)
    median, low, high = row["bare by loop"]
    assert 0 < low <= median <= high
    assert row["images a second"] > 0
    assert training.pictures(seconds=0.0, count=2)["pictures a second and core"] > 0
