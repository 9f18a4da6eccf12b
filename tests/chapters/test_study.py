"""What the page says of the study is what the record holds."""

import json

import pytest
from scipy.stats import tukey_hsd

from attention_notes.chapters import study

MODELS = [model for models in study.KINDS.values() for model in models]


@pytest.fixture
def found():
    """A record in which every model is a little better than the one before, and better still if drawn by width."""
    arms = {model: 60.0 + i for i, model in enumerate(MODELS)} | {"Swin" + study.BY_WIDTH: 90.0}
    rows = [
        {"arm": arm, "lr": lr, "seed": seed, "test": (right + seed**2 - lr) / 100, "validation": [0.1, 0.2]}
        for arm, right in arms.items()
        for lr in (1, 2)
        for seed in (2, 0, 1)
    ]
    cost = {model: {"parameters": 160_618, "macs": 8_822_576, "takes": [1.25, 1, 2]} for model in MODELS}
    return {"rows": rows, "rates": dict.fromkeys(arms, 1), "cost": cost}


def test_a_model_is_compared_by_its_rate_and_with_its_maps_drawn_by_width(found):
    right = study.accuracies(found)
    assert next(iter(right)) == "Swin", "the best comes first"
    assert set(right) == set(MODELS)
    assert right["Swin"] == pytest.approx([89 + seed**2 for seed in range(3)])
    alike = study.drawn_alike(found)
    assert list(alike) == ["Swin"]
    assert alike["Swin"] == pytest.approx([59 + MODELS.index("Swin") + seed**2 for seed in range(3)])


def test_two_means_are_told_apart_as_by_scipy(found):
    apart = study.told_apart(found)
    groups = list(study.accuracies(found).values())
    p = tukey_hsd(*groups).pvalue
    means = [sum(group) / len(group) for group in groups]
    pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
    differ = {(i, j) for i, j in pairs if p[i, j] < 0.05}
    assert differ == {(i, j) for i, j in pairs if abs(means[i] - means[j]) > apart}
    assert 0 < len(differ) < len(pairs)


def test_the_table_has_both_ways_of_drawing(found):
    lines = repr(study.table(found)).splitlines()
    assert len(lines) == 1 + len(MODELS)
    assert lines[1].split("  ")[0] == "Swin"
    assert "90.7 ± 2.1" in lines[1]
    assert "63.7 ± 2.1" in lines[1]
    assert lines[1].endswith("8.8    1.25")
    assert lines[2].count("±") == 1
    with pytest.raises(ValueError, match="no record of a study on 'toaster'"):
        study.results("toaster")


def test_every_model_of_the_record_has_a_chapter_and_a_kind():
    record = study.results()
    assert set(study.CHAPTERS) == set(MODELS)
    assert {arm.removesuffix(study.BY_WIDTH) for arm in record["rates"]} == set(MODELS)
    assert all(len({row["seed"] for row in rows}) == 5 for rows in study.chosen(record).values())
    assert json.dumps(record["recipe"])


def test_the_record_holds_what_the_page_concludes():
    record = study.results()
    right = {model: sum(values) / len(values) for model, values in study.accuracies(record).items()}
    apart = study.told_apart(record)
    tokens = [*study.KINDS["one map of tokens"], *study.KINDS["two maps of tokens"]]
    residual = [right[model] for model in study.KINDS["convolutions"]]
    assert min(residual) - max(right[model] for model in tokens) >= apart
    assert max(residual) - min(residual) < apart
    classical = (record["baselines"]["the nearest neighbour"], record["baselines"]["logistic regression"])
    assert min(residual) > 100 * max(classical)
    assert max(right[model] for model in tokens) < 100 * min(classical)
    two = min(right[model] for model in study.KINDS["two maps of tokens"] if model != "PVT")
    assert two - max(right[model] for model in study.KINDS["one map of tokens"]) >= apart
    assert [model for model in right if right["PVT"] - right[model] >= apart] == ["ViT"]
    alike = {model: sum(values) / len(values) for model, values in study.drawn_alike(record).items()}
    gains = {model: right[model] - alike[model] for model in alike}
    assert len(gains) == 8
    assert min(gains.values()) > 0
    assert min(gains["CaiT"], gains["PVT"]) > 10
    assert right["ViT"] - max(alike[model] for model in ("DeiT", "CaiT", "PVT")) >= apart
