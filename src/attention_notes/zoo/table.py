"""The models as a table: text in a shell, HTML in a notebook, the same cells in both."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from attention_notes.zoo import MODELS, Measured, Model


class Cell(NamedTuple):
    """What is shown, and the number it is sorted by where it is one."""

    text: str
    value: float | None = None


COLUMNS = (
    "model",
    "parameters",
    "GMACs",
    "activations (M)",
    "input",
    "top-1, ImageNet-1k alone",
    "top-1, pre-trained on more",
    "tested at",
    "who published it",
)


class Table:
    """One line a model; ``measured`` has the counts by name."""

    def __init__(self, measured: Mapping[str, Measured]) -> None:
        self.keys = [MODELS[name].family.key for name in measured]
        self.rows = [_cells(MODELS[name], counts) for name, counts in measured.items()]

    def __repr__(self) -> str:
        lines = [COLUMNS[:-1], *([cell.text for cell in row[:-1]] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in COLUMNS)
        body = "\n".join(
            f'<tr data-chapter="{key}"><th scope="row">{escape(row[0].text)}</th>{"".join(map(_html, row[1:]))}</tr>'
            for key, row in zip(self.keys, self.rows, strict=True)
        )
        return (
            '<div class="sortable" tabindex="0" role="region" aria-label="Every model, in a table that scrolls">\n'
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
        )


def _cells(one: Model, counts: Measured) -> Sequence[Cell]:
    record = one.record
    more = ", ".join(f"{accuracy} ({data})" for data, accuracy in record.pretrained.items())
    tested = record.tested.get("image_size") if record.top1 or record.pretrained else None
    tested = tested or (one.size if record.top1 or record.pretrained else None)
    return (
        Cell(one.name),
        Cell(f"{counts.parameters:,}", counts.parameters),
        Cell(f"{counts.macs / 1e9:.2f}", counts.macs),
        Cell(f"{counts.activations / 1e6:.1f}", counts.activations),
        Cell(f"{one.size} x {one.size}" if one.size else "64 tokens", one.size or 0),
        Cell(f"{record.top1}" if record.top1 else "–", record.top1),
        Cell(more or "–", max(record.pretrained.values(), default=None)),
        Cell(f"{tested} x {tested}" if tested else "–", tested),
        Cell(record.source or "–"),
    )


def _html(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
    return f"<td{value}>{escape(cell.text)}</td>"
