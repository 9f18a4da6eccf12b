"""What a training says: a line of JSON for each interval, curves as a picture, and TensorBoard where there is one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Log:
    """``log.jsonl`` in a folder, to which a resumed training adds what comes after its checkpoint.

    Args:
        folder: where it is written; None writes nothing, as in all processes but the first.
        step: how many steps have been taken; lines of later ones are removed.
    """

    def __init__(self, folder: Path | None, *, step: int) -> None:
        self.path = folder / "log.jsonl" if folder else None
        self.rows: list[dict[str, Any]] = []
        self.board: Any = None
        if self.path is None or folder is None:
            return
        if self.path.exists():
            self.rows = [row for row in rows_of(self.path) if row["step"] <= step]
        part = self.path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in self.rows), "utf-8")
        part.replace(self.path)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, row: dict[str, Any]) -> None:
        """Write a row, which has a ``step``."""
        if self.path is None:
            return
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in row.items():
                if name not in ("step", "epoch") and isinstance(value, int | float):
                    self.board.add_scalar(name, value, row["step"])

    def draw(self) -> None:
        """The curves so far, as ``curves.svg``; nothing where matplotlib is missing."""
        if self.path is None:
            return
        try:
            figure = curves(self.rows)
        except ImportError:
            return
        part = self.path.with_name(".curves.part")
        figure.savefig(part, format="svg", bbox_inches="tight")
        part.replace(self.path.with_name("curves.svg"))

    def close(self) -> None:
        """End what TensorBoard reads."""
        if self.board is not None:
            self.board.close()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; one that was cut off in the middle of being written is left out."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            found.append(row)
    return found


def curves(rows: Sequence[dict[str, Any]]) -> Any:
    """A figure: the loss, of training and held out, and the share of held-out images that is named right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, words in (("loss", "in training"), ("held_out_loss", "held out"), ("average_loss", "held out, average")):
        if points := [(row["epoch"], row[name]) for row in rows if name in row]:
            left.plot(*zip(*points, strict=True), label=words)
    for name, words in (("top1", "weights"), ("average_top1", "average of the weights")):
        if points := [(row["epoch"], row[name]) for row in rows if name in row]:
            right.plot(*zip(*points, strict=True), marker=".", label=words)
    left.set(xlabel="epoch", ylabel="loss")
    right.set(xlabel="epoch", ylabel="share of held-out images named right", ylim=(0, 1))
    for axes in (left, right):
        if axes.lines:
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
