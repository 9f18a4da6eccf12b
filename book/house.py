"""Who imports whom in the package, room by room: ``make house`` draws it into ``book/_static/house.svg``.

A room imports only from the rooms above it, so every arc of the drawing leads upwards. ``tests/test_structure.py``
holds every import to that, and the drawing to the imports.
"""

import ast
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src/attention_notes"
PICTURE = ROOT / "book/_static/house.svg"
# Each imports from those before it, and from itself. What lies in the package's own folder is the last.
ROOMS = {
    "nn": "parts that know no paper",
    "inspect": "attention weights, where they lie on an image, counts",
    "images": "a photograph on its way in, names of classes on their way out",
    "weights": "other people's weights in our models, and ours in theirs",
    "papers": "one folder a paper: model, facts, family, weights, geometry",
    "claims": "statements, their verdicts, records of trainings",
    "registry": "every model by its name, and whether it is as recorded",
    "chapters": "what chapters use; figures and data of single papers",
    "training": "recipes, and the loop that runs them from a laptop to many GPUs",
    "": "the command line",
}
FOR_CHAPTERS = ("figures", "data")  # modules of a paper's folder that belong to its chapter
ROW, WIDTH, LEFT = 58, 660, 440


def imports(package: Path = PACKAGE) -> Iterator[tuple[str, str]]:
    """Every import of a module of the package by another, as dotted names; also of what is named in a string."""
    for file in sorted(package.rglob("*.py")):
        yield from ((dotted(file, package), other) for other in sorted(_imported(file)))


def dotted(file: Path, package: Path = PACKAGE) -> str:
    """``nn.mlp`` for the file of a module; a package has the name of its folder, and the outermost none."""
    return ".".join(file.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def room_of(name: str) -> str:
    """The room of a module."""
    parts = name.split(".")
    if parts[0] == "papers" and len(parts) > 2 and parts[2] in FOR_CHAPTERS:
        return "chapters"
    return parts[0] if parts[0] in ROOMS else ""


def draw(package: Path = PACKAGE) -> str:
    """The rooms from top to bottom, and an arc from each to every other that it imports from."""
    edges = {(room_of(a), room_of(b)) for a, b in imports(package) if room_of(a) != room_of(b)}
    middle = {room: 40 + ROW * i for i, room in enumerate(ROOMS)}
    lines = []
    for room, words in ROOMS.items():
        y = middle[room]
        lines += [
            f'<rect x="20" y="{y - 20}" width="{LEFT - 20}" height="40" rx="5" fill="#eef2f7" stroke="#3b5573"/>',
            f'<text x="32" y="{y - 2}" font-weight="bold">{room or "__main__"}</text>',
            f'<text x="32" y="{y + 13}" font-size="12">{escape(words)}</text>',
        ]
    for a, b in sorted(edges):
        start, end = middle[a], middle[b] + 6
        reach = LEFT + 40 + 0.55 * abs(start - end)
        path = f"M {LEFT} {start} C {reach:.0f} {start}, {reach:.0f} {end}, {LEFT + 1} {end}"
        lines.append(f'<path d="{path}"><title>{a or "__main__"} imports from {b or "__main__"}</title></path>')
    height = 40 + ROW * len(ROOMS)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="14" fill="#1f2937" role="img" '
        'aria-label="The rooms of the package, and which imports from which: every arc leads upwards">'
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0 8 4 0 8z"/></marker><style>'
        "path { fill: none; stroke: #9a3412; stroke-width: 1.3; marker-end: url(#tip) } "
        ".tip { fill: #9a3412; stroke: none; marker-end: none }</style></defs>"
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, tip, ground, *lines, "</svg>", ""])


def _imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if re.fullmatch(r"attention_notes(\.\w+)+", node.value) else set()
    return {name.removeprefix("attention_notes.") for name in found if name.startswith("attention_notes.")}


if __name__ == "__main__":
    unfinished = PICTURE.with_suffix(".part")
    unfinished.write_text(draw(), encoding="utf-8")
    unfinished.replace(PICTURE)
    print(PICTURE.relative_to(ROOT), file=sys.stderr)
