"""The study: each arm at its best rate, chosen by images that are not tested with, and nothing trained twice."""

import json
from concurrent.futures import Future
from contextlib import nullcontext

import pytest
import torch

from benchmarks import study
from benchmarks.arms import ARMS, FIXED, MODELS, SIDE, by_width
from tests.training.test_data import write_fashion

SMALL = ("data.images=32", "data.validation=20", "optimise.batch=16", "optimise.epochs=2")


class Here:
    """Runs in this process, one after the other."""

    def __init__(self):
        self.runs = []

    def submit(self, work, *one):
        self.runs.append(one[1:])
        work(*one)
        done = Future()
        done.set_result(None)
        return done


@pytest.fixture
def place(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_fashion(data, counts=(60, 30))
    return study.Place(data, tmp_path / "runs", SMALL)


def test_the_arms_have_as_many_parameters_and_take_the_same_images():
    counts = {arm: study.count_parameters(make(num_classes=10)) for arm, make in ARMS.items()}
    middle = counts["ViT"]
    assert {arm: count for arm, count in counts.items() if abs(count / middle - 1) > 0.05} == {}
    assert len(MODELS) == 13
    assert set(ARMS) == {*MODELS, *map(by_width, FIXED)}
    for make in ARMS.values():
        assert make(num_classes=10).eval()(torch.zeros(1, 1, SIDE, SIDE)).shape == (1, 10)


@pytest.mark.parametrize("arm", FIXED)
def test_maps_drawn_by_width_keep_the_variance_and_nothing_else_is_drawn_anew(arm):
    drawn = {}
    for name in (arm, by_width(arm)):
        torch.manual_seed(0)
        drawn[name] = dict(ARMS[name](num_classes=10).named_modules())
    (fixed, ours) = drawn.values()
    anew = {
        name: module
        for name, module in ours.items()
        if hasattr(module, "weight") and not torch.equal(module.weight, fixed[name].weight)
    }
    assert all(isinstance(module, torch.nn.Linear) for module in anew.values())
    maps = [module.weight for name, module in anew.items() if min(module.weight.shape) >= 32 and "qkv" not in name]
    assert len(maps) >= 8
    for weight in maps:
        glorot = (2 / sum(weight.shape)) ** 0.5
        assert weight.std().item() > 0.6 * glorot
    assert all(fixed[name].weight.std() < 0.03 for name in anew)


def written(place, arm, lr, seed, right):
    folder = place.folder(arm, lr=lr, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    digest = place.recipe(arm, lr=lr, seed=seed).digest
    row = {"arm": arm, "lr": lr, "seed": seed, "digest": digest, "validation": [0.1, right], "test": 1 - right}
    (folder / "row.json").write_text(json.dumps({**row, "seconds": 1.0}))


@pytest.mark.parametrize(("best", "tried"), [(2e-3, 3), (1.6e-2, 6), (2.5e-4, 6), (1e-3, 4)])
def test_rates_are_tried_until_the_best_has_a_worse_one_on_either_side(place, monkeypatch, best, tried):
    monkeypatch.setattr(
        study, "run", lambda place, arm, lr, seed: written(place, arm, lr, seed, 1 / (1 + abs(lr - best) * 1e3))
    )
    here = Here()
    study.tuned(place, ["ViT"], here)
    assert place.rates("ViT") == {"ViT": best}
    assert len(here.runs) == tried
    assert {seed for *_, seed in here.runs} == {0}
    study.tuned(place, ["ViT"], here)
    assert len(here.runs) == tried, "nothing is trained twice"


def test_a_run_by_another_recipe_or_of_another_arm_does_not_count(place, monkeypatch):
    written(place, "ViT", 1e-3, 0, 0.5)
    assert len(place.rows("ViT")) == 1
    assert place.rows("Swin") == []
    longer = study.Place(place.data, place.runs, (*SMALL, "optimise.epochs=3"))
    assert longer.rows("ViT") == []
    monkeypatch.setitem(study.ARMS, "ViT", study.ARMS["Swin"])
    assert place.rows("ViT") == []


def test_a_run_is_recorded_and_the_student_hears_its_teacher(place, monkeypatch, tmp_path):
    monkeypatch.setattr(study, "RATES", (2e-3,))
    monkeypatch.setattr(study, "SEEDS", range(2))
    monkeypatch.setattr(study, "_beyond", lambda tried, best: None)
    monkeypatch.setattr(study, "ProcessPoolExecutor", lambda *a, **k: nullcontext(Here()))
    changes = [word for change in SMALL for word in ("--set", change)]
    said = ["--data", str(place.data), "--runs", str(place.runs), "--device", "cpu", "--seconds", "0", *changes]
    monkeypatch.setattr(study, "cost", lambda device, seconds: {})
    assert study.main([*said, "--arms", "DeiT", "ResNet", "--results", str(tmp_path / "study.json")]) == 0
    record = json.loads((tmp_path / "study.json").read_text())
    assert {(row["arm"], row["seed"]) for row in record["rows"]} == {(a, s) for a in ("DeiT", "ResNet") for s in (0, 1)}
    for row in record["rows"]:
        assert len(row["validation"]) == len(row["loss"]) == 2
        assert 0 <= row["test"] <= 1
    assert record["rates"] == {"DeiT": 2e-3, "ResNet": 2e-3}
    assert record["baselines"]["the commonest class"] < 0.5
    assert record["recipe"] == study.load_recipe(study.RECIPE, SMALL).decides
    assert not [*place.runs.glob("*/checkpoints")]


def test_a_run_that_diverges_is_the_worst(place, monkeypatch):
    def diverges(*args, **options):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(study, "train", diverges)
    study.run(place, "ViT", 2e-3, 0)
    (row,) = place.rows("ViT")
    assert row["validation"] == [0.0]
    assert "not finite" in row["diverged"]
