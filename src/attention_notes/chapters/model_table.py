"""The models as a table."""

from collections.abc import Mapping, Sequence

from attention_notes.chapters import tables
from attention_notes.chapters.tables import Cell
from attention_notes.registry import MODELS, Measured, Model

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


class Table(tables.Table):
    """One line a model; ``measured`` has the counts by name."""

    def __init__(self, measured: Mapping[str, Measured]) -> None:
        super().__init__(
            COLUMNS,
            [_cells(MODELS[name], counts) for name, counts in measured.items()],
            label="Every model, in a table that scrolls",
            keys=[MODELS[name].key for name in measured],
            told=-1,  # who published it is too long for a shell
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
