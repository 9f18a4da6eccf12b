"""A table that is text in a shell and sortable HTML on a page, with the same cells in both."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Cell(NamedTuple):
    """What is shown, and the number it is sorted by where it is one."""

    text: str
    value: float | None = None


class Table:
    """Rows of cells under their columns.

    Args:
        columns: the heads.
        rows: as many cells each.
        label: what a screen reader calls it.
        keys: the chapter of each row; the page makes a link of the row's first cell.
        told: how many columns the text has; all when not given.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        label: str,
        keys: Sequence[str],
        told: int | None = None,
    ) -> None:
        self.columns, self.rows, self.label, self.keys, self.told = columns, rows, label, keys, told

    def __repr__(self) -> str:
        lines = [self.columns[: self.told], *([cell.text for cell in row[: self.told]] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        body = "\n".join(
            f'<tr data-chapter="{key}"><th scope="row">{escape(row[0].text)}</th>{"".join(map(_html, row[1:]))}</tr>'
            for key, row in zip(self.keys, self.rows, strict=True)
        )
        return (
            f'<div class="sortable" tabindex="0" role="region" aria-label="{escape(self.label)}">\n'
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
        )


def _html(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
    return f"<td{value}>{escape(cell.text)}</td>"
