"""What models of one size learned from the same images in the same time: ``make study`` writes the record."""

from __future__ import annotations

import json
from statistics import mean, stdev
from typing import Any

from attention_notes.chapters.speed import RECORDS
from attention_notes.chapters.tables import Cell, Table

Row = dict[str, Any]
# the chapter of each model; its place among the three kinds
CHAPTERS = {
    "ViT": "vit",
    "DeiT": "deit",
    "CaiT": "cait",
    "Swin": "swin",
    "Swin V2": "swin",
    "PVT": "pvt",
    "PVT v2": "pvt",
    "Twins-SVT": "twins",
    "NesT": "nest",
    "ResNet": "non_local",
    "ResNet + Non-local": "non_local",
    "ResNet + CBAM": "cbam",
    "ResNet + DNL": "dnl",
}
KINDS = {
    "one map of tokens": ("ViT", "DeiT", "CaiT"),
    "two maps of tokens": ("Swin", "Swin V2", "PVT", "PVT v2", "Twins-SVT", "NesT"),
    "convolutions": ("ResNet", "ResNet + Non-local", "ResNet + CBAM", "ResNet + DNL"),
}
COLUMNS = ("model", "accuracy, %", "rate", "drawn with 0.02, %", "MMACs", "a step takes")
BY_WIDTH = ", by width"  # ends the name of an arm whose authors draw linear maps with one deviation for all widths


def results(device: str = "cpu") -> dict[str, Any]:
    """The last record of a sort of device.

    Raises:
        ValueError: if there is none.
    """
    file = RECORDS / f"study_{device}.json"
    if not file.is_file():
        raise ValueError(f"there is no record of a study on {device!r} in {RECORDS}: make study writes one")
    return json.loads(file.read_text(encoding="utf-8"))


def chosen(found: Row) -> dict[str, list[Row]]:
    """The runs of each model at its rate, by seeds, with linear maps drawn by width; the best mean comes first."""
    runs = _runs(found)
    ours = {model: runs.get(model + BY_WIDTH, runs[model]) for arms in KINDS.values() for model in arms}
    return dict(sorted(ours.items(), key=lambda item: -mean(row["test"] for row in item[1])))


def _runs(found: Row) -> dict[str, list[Row]]:
    """The runs of each arm at its rate, by seeds."""
    rows = sorted(found["rows"], key=lambda row: row["seed"])
    return {arm: [r for r in rows if r["arm"] == arm and r["lr"] == rate] for arm, rate in found["rates"].items()}


def accuracies(found: Row) -> dict[str, list[float]]:
    """Of each model, the test accuracy of each seed in per cent; the model of the best mean first."""
    return {model: [100 * row["test"] for row in rows] for model, rows in chosen(found).items()}


def drawn_alike(found: Row) -> dict[str, list[float]]:
    """The same of the models whose authors draw maps of every width with the deviation 0.02, when drawn so."""
    runs = _runs(found)
    alike = [arm.removesuffix(BY_WIDTH) for arm in runs if arm.endswith(BY_WIDTH)]
    return {model: [100 * row["test"] for row in runs[model]] for model in alike}


def told_apart(found: Row) -> float:
    """From which difference of two means on Tukey's test tells two models apart, at 5 % over all pairs; in points.

    It takes the models to spread alike, and pools their spread.
    """
    from scipy.stats import studentized_range

    groups = list(accuracies(found).values())
    count, free = len(groups[0]), sum(len(group) - 1 for group in groups)
    pooled = (sum(stdev(group) ** 2 * (len(group) - 1) for group in groups) / free) ** 0.5
    return float(studentized_range.ppf(0.95, len(groups), free) * pooled / count**0.5)


def table(found: Row) -> Table:
    """A row for each model."""
    rows, keys, alike = [], [], drawn_alike(found)
    for model, runs in chosen(found).items():
        cost, rate = found["cost"][model], runs[0]["lr"]
        takes = cost["takes"][0]
        rows.append(
            [
                Cell(model),
                _spread([100 * row["test"] for row in runs]),
                Cell(f"{rate:g}", rate),
                _spread(alike[model]) if model in alike else Cell(""),
                Cell(f"{cost['macs'] / 1e6:.1f}", cost["macs"]),
                Cell(f"{takes:.2f}", takes),
            ]
        )
        keys.append(CHAPTERS[model])
    return Table(COLUMNS, rows, label="What each model learned, and what it cost", keys=keys)


def _spread(right: list[float]) -> Cell:
    return Cell(f"{mean(right):.1f} ± {stdev(right):.1f}", mean(right))
