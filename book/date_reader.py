"""Write the weights of the model that reads dates, for the chapters that need it and do not train it.

``python book/date_reader.py`` executes the cells of the chapter on the Transformer that its averaged checkpoints need,
in a minute or two, and writes ``src/attention_notes/chapters/data/date_reader.safetensors``.
"""

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "book/_ext")]
FILE = ROOT / "src/attention_notes/chapters/data/date_reader.safetensors"
AVERAGED = "model.load_state_dict"  # the cell with this call puts the average of the checkpoints into ``model``


def main() -> int:
    """Train as the chapter does, and write the file whole or not at all."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import torch
    from safetensors.torch import save_file

    cells = training_cells((ROOT / "book/chapters/transformer.md").read_text(encoding="utf-8"))
    space: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        exec(compile(cell, "<transformer>", "exec"), space)
    weights = space["model"].state_dict()
    half = {name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in weights.items()}
    unfinished = FILE.with_suffix(".part")
    save_file(half, unfinished, metadata={"characters": "".join(space["characters"].characters)})
    unfinished.chmod(0o644)
    unfinished.replace(FILE)
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size / 1000:.0f} kB")
    return 0


def training_cells(text: str) -> list[str]:
    """The cells that the trained statement of that chapter needs, up to the averaged checkpoints."""
    from executed.sliced import needed_cells

    cells = needed_cells("transformer", text)
    last = next(i for i, cell in enumerate(cells) if AVERAGED in cell)
    return cells[: last + 1]


if __name__ == "__main__":
    sys.exit(main())
