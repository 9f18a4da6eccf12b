"""How fast the models were when they were last measured, and on what: ``python -m benchmarks`` writes the records."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from attention_notes.chapters.tables import Cell, Table

Row = dict[str, Any]
RECORDS = Path(__file__).parents[3] / "benchmarks/records"  # in a checkout: they are not installed
COLUMNS = (
    "model",
    "work",
    "inputs",
    "quickest peer",
    "takes",
    "95 %",
    "we aim at",
    "memory",
    "of the limit",
    "ours, ms",
    "threads",
    "ours against itself",
)
GPU = ("model", "numbers", "run", "kernel", "timm takes", "95 %", "ours, ms")
_CHAPTERS = {"Swin-T": "swin", "Swin V2-T": "swin", "PVT v2-B2": "pvt", "Non-local block": "non_local"}
WRITING = (
    "model",
    "beams",
    "texts",
    "transformers takes",
    "95 %",
    "ours by columns",
    "without a cache takes",
    "tokens a second",
    "memory",
    "ours against itself",
)
PLAIN = "nn.Transformer, no cache"
WRITERS = {"translation": "Transformer, base", "language": "GPT-2"}
HEAPS = ("model", "takes", "kept", "in chunks", "kept", "ours, ms", "kept", "peer, ms", "kept")


def results(device: str = "cpu") -> dict[str, Any]:
    """The last measurement on a sort of device.

    Raises:
        ValueError: if there was none.
    """
    file = RECORDS / f"{device}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in RECORDS.glob("*.json"))) or "nothing"
        raise ValueError(f"nothing was measured on {device!r}; in {RECORDS} there is: {known}")
    return json.loads(file.read_text(encoding="utf-8"))


def on_a_gpu() -> dict[str, Any]:
    """What ``make cuda`` found when it last ran; empty if it never did."""
    file = RECORDS / "cuda_check.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def summary(found: dict[str, Any]) -> str:
    """What ``make cuda`` found, in two or three lines."""
    if not found:
        return "Nothing was measured: no GPU has been at hand."
    machine, contract, pages = found["machine"], found["contract"], found["notebooks"].values()
    outside = sum(len(page.get("outside", [])) for page in pages)
    failed = sum(bool(page.get("error") or page.get("contradicted")) for page in pages)
    said = [f"{machine['device']}, torch {machine['versions']['torch']}, {machine['date']}"]
    said.append("contract: {passed} tests passed, {failures} failed, {skipped} skipped".format(**contract))
    said.append(f"{len(pages)} chapters, {failed} failed; {outside} trained values outside their records")
    return "\n".join([*said, *(f"left out for want of time: {name}" for name in found["left out"])])


def gpu_table(found: dict[str, Any]) -> Table:
    """The ratios of ``make cuda`` with the kernels that computed the attention; no rows if it never ran."""
    kernels = {_of(row): ", ".join(row["kernels"]) for row in found.get("kernels", []) if "kernels" in row}
    rows = [row for row in found.get("ratios", []) if "ratio" in row]
    lines = [
        [
            Cell(row["name"]),
            Cell(row["dtype"]),
            Cell("compiled" if row["compiled"] else "eager"),
            Cell(kernels.get(_of(row), "–")),
            Cell(f"{row['ratio'][0]:.2f}", row["ratio"][0]),
            Cell("{1:.2f} to {2:.2f}".format(*row["ratio"])),
            Cell(f"{row['seconds'] * 1e3:.1f}", row["seconds"]),
        ]
        for row in rows
    ]
    keys = [_CHAPTERS.get(row["name"], "vit") for row in rows]
    return Table(GPU, lines, label="Ratios on a GPU, in a table that scrolls", keys=keys)


def kind(row: Row) -> str:
    """What was done, and how, as the goals are named: ``inference, in chunks``."""
    return row["work"] + ", in chunks" * row["chunked"] + ", compiled" * row["compiled"]


def best(row: Row) -> str:
    """The peer that is the quickest."""
    return min(row["ratios"], key=lambda peer: row["ratios"][peer][0])


def reached(row: Row, goal: float | None) -> bool | None:
    """Whether the quickest peer takes as many times as long as was aimed at, by the lower end of the interval."""
    return None if goal is None else row["ratios"][best(row)][1] >= goal


def headline(rows: Sequence[Row], what: str) -> dict[str, Row]:
    """Of every case the row with most inputs, eight at most, on all threads, of a ``kind``."""
    most = max(row["threads"] for row in rows)
    chosen = [r for r in rows if kind(r) == what and r["threads"] == most and r["batch"] <= 8 and not r["kept"]]
    largest = {row["case"]: row for row in sorted(chosen, key=lambda row: row["batch"])}
    return {case: largest[case] for case in dict.fromkeys(row["case"] for row in chosen)}


def heaps(rows: Sequence[Row]) -> Table:
    """The rows timed with memory that is kept, beside the same with memory that goes back to the system."""
    lines, twice = [], [row for row in rows if row["kept"] and not row["chunked"]]
    for kept in twice:
        same = {name: kept[name] for name in ("case", "work", "batch", "threads", "compiled")}
        alike = {(row["kept"], row["chunked"]): row for row in rows if same.items() <= row.items()}
        given = alike[False, False]
        ratios = [row["ratios"][best(row)][0] for row in (given, kept)]
        once = [Cell("–"), Cell("–")]
        if (True, True) in alike:
            chunks = [row["ratios"][best(row)][0] for row in (alike[False, True], alike[True, True])]
            once = [Cell(f"{value:.2f}", value) for value in chunks]
        ours = [row["seconds"] for row in (given, kept)]
        cells = [Cell(f"{1e3 * value:.1f}", value) for value in (*ours, ours[0] * ratios[0], ours[1] * ratios[1])]
        lines.append([Cell(kept["case"]), *(Cell(f"{value:.2f}", value) for value in ratios), *once, *cells])
    keys = [row["key"] for row in twice]
    return Table(HEAPS, lines, label="Memory given back and kept, in a table that scrolls", keys=keys)


def table(rows: Sequence[Row], goals: dict[str, dict[str, float]], *, without: Collection[str] = ()) -> Table:
    """The rows with their quickest peers; ``without`` some of the ``COLUMNS``."""
    shown = [i for i, column in enumerate(COLUMNS) if column not in without]
    lines = [_cells(row, goals[row["case"]].get(kind(row))) for row in rows]
    return Table(
        [COLUMNS[i] for i in shown],
        [[line[i] for i in shown] for line in lines],
        label=f"{len(rows)} times beside those of the quickest peer, in a table that scrolls",
        keys=[row["key"] for row in rows],
    )


def writing(rows: Sequence[Row]) -> Table:
    """How long transformers takes to write the same texts, greedily (one beam) and with several beams.

    For one text at a time also beside ours with its weights column by column, as ``nn.layout`` has it.
    """
    lines = [
        [
            Cell(WRITERS[row["model"]]),
            Cell(f"{row['beams']}", row["beams"]),
            Cell(f"{row['batch']}", row["batch"]),
            Cell("{:.2f}".format(*row["ratios"]["transformers"]), row["ratios"]["transformers"][0]),
            Cell("{1:.2f} to {2:.2f}".format(*row["ratios"]["transformers"])),
            _interval(row["column-major"]),
            _interval(row["ratios"].get(PLAIN)),
            Cell(f"{row['tokens a second']:.0f}", row["tokens a second"]),
            Cell(f"{row['memory']['ours'] / row['memory']['transformers']:.2f}"),
            _interval(row["control"]),
        ]
        for row in rows
    ]
    keys = [{"translation": "transformer", "language": "gpt"}[row["model"]] for row in rows]
    return Table(WRITING, lines, label="Writing token by token, in a table that scrolls", keys=keys)


def _interval(found: Sequence[float] | None) -> Cell:
    return Cell("{:.2f}, {:.2f} to {:.2f}".format(*found)) if found else Cell("–")


def _of(row: Row) -> tuple[Any, ...]:
    return row["name"], row["dtype"], row["compiled"]


def _cells(row: Row, goal: float | None) -> list[Cell]:
    peer = best(row)
    ratio, low, high = row["ratios"][peer]
    memory = row["memory"]["ours"] / row["memory"][peer]
    mark = {True: " ✓", False: " ✗", None: ""}[reached(row, goal)]
    return [
        Cell(row["case"]),
        Cell(kind(row) + ", memory kept" * row["kept"]),
        Cell(f"{row['batch']}", row["batch"]),
        Cell(peer),
        Cell(f"{ratio:.2f}", ratio),
        Cell(f"{low:.2f} to {high:.2f}"),
        Cell("–" if goal is None else f"{goal:.2f}{mark}", goal),
        Cell(f"{memory:.2f}", memory),
        Cell(f"{row['share']:.0%}", row["share"]),
        Cell(f"{row['seconds'] * 1e3:.1f}", row["seconds"]),
        Cell(f"{row['threads']}", row["threads"]),
        _interval(row["control"]),
    ]
