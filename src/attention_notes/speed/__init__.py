"""How fast the models were when they were last measured, and on what: ``python -m benchmarks`` writes it here."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from attention_notes.tables import Cell, Table

Row = dict[str, Any]
COLUMNS = (
    "model",
    "work",
    "inputs at once",
    "threads",
    "ours, ms",
    "quickest peer",
    "it takes, times ours",
    "interval of 95 %",
    "we aim at",
    "ours against itself",
    "memory, ours over its",
    "of the limit",
)


def results(device: str = "cpu") -> dict[str, Any]:
    """The last measurement on a sort of device.

    Raises:
        ValueError: if there was none.
    """
    found = {file.name: file for file in resources.files(__name__).iterdir() if file.name.endswith(".json")}
    if f"{device}.json" not in found:
        raise ValueError(f"nothing was measured on {device!r}; measured: {', '.join(sorted(found))}")
    return json.loads(found[f"{device}.json"].read_text(encoding="utf-8"))


def best(row: Row) -> str:
    """The peer that is the quickest."""
    return min(row["ratios"], key=lambda peer: row["ratios"][peer][0])


def reached(row: Row, goal: float | None) -> bool | None:
    """Whether the quickest peer takes as many times as long as was aimed at, by the lower end of the interval."""
    return None if goal is None else row["ratios"][best(row)][1] >= goal


def table(rows: Sequence[Row], goals: dict[str, dict[str, float]]) -> Table:
    """The rows with their quickest peers."""
    return Table(
        COLUMNS,
        [_cells(row, goals[row["case"]].get(row["work"])) for row in rows],
        label="Times beside those of the quickest peer, in a table that scrolls",
        keys=[row["key"] for row in rows],
    )


def _cells(row: Row, goal: float | None) -> list[Cell]:
    peer = best(row)
    ratio, low, high = row["ratios"][peer]
    memory = row["memory"]["ours"] / row["memory"][peer]
    mark = {True: " ✓", False: " ✗", None: ""}[reached(row, goal)]
    return [
        Cell(row["case"]),
        Cell(row["work"]),
        Cell(f"{row['batch']}", row["batch"]),
        Cell(f"{row['threads']}", row["threads"]),
        Cell(f"{row['seconds'] * 1e3:.1f}", row["seconds"]),
        Cell(peer),
        Cell(f"{ratio:.2f}", ratio),
        Cell(f"{low:.2f} to {high:.2f}"),
        Cell("–" if goal is None else f"{goal:.2f}{mark}", goal),
        Cell("{:.2f}, {:.2f} to {:.2f}".format(*row["control"])),
        Cell(f"{memory:.2f}", memory),
        Cell(f"{row['share']:.0%}", row["share"]),
    ]
