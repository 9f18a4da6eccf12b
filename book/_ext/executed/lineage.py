"""The map of the papers: who changed what of whom, from the facts and from what the modules import."""

import ast
import html
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from attention_notes.claims import load_facts

from .ledger import Entries

WIDTH, HEIGHT, ACROSS, DOWN = 140, 44, 48, 18  # of a box and of the gaps between boxes, in the drawing's units


@dataclass(frozen=True)
class Step:
    """A paper that builds on another: what it changed, and what its module imports from the other's."""

    child: str
    parent: str
    change: str
    imports: tuple[str, ...]


class Map(Entries):
    """``{map}``: the papers as a drawing whose boxes are links, and every step in words under it."""

    def run(self) -> list[nodes.Node]:
        keys = [key for key in self.chapters() if load_facts(key)["paper"]]
        every = (step for key in keys for step in steps_of(key, Path(self.env.srcdir)))
        steps = [step for step in every if step.parent in keys]  # a parent may have no chapter
        labels = {key: self.env.titles[self.page(key)].astext() for key in keys}
        links = {key: self.env.app.builder.get_relative_uri(self.env.docname, self.page(key)) for key in keys}
        drawing = nodes.raw("", draw(labels, links, steps), format="html")
        words = [_words(step, self.page) for step in steps]
        return [drawing, *self.parsed("\n".join(words))]


def steps_of(key: str, root: Path) -> list[Step]:
    """The steps that led to a paper, in the order of its facts."""
    parents = load_facts(key)["paper"].get("builds_on", {})
    module = root / f"src/attention_notes/papers/{key}/model.py"
    taken = imported(module.read_text(encoding="utf-8")) if module.exists() else {}
    return [Step(key, parent, change, taken.get(parent, ())) for parent, change in parents.items()]


def imported(source: str) -> dict[str, tuple[str, ...]]:
    """What a module imports from the modules of other papers, by their keys."""
    room = "attention_notes.papers."
    return {
        node.module.removeprefix(room).split(".")[0]: tuple(alias.name for alias in node.names)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(room)
    }


def columns(keys: list[str], steps: list[Step]) -> list[list[str]]:
    """Papers by their distance from the beginning, each column in the order that crosses few lines."""
    depth: dict[str, int] = {}

    def depth_of(key: str, below: tuple[str, ...] = ()) -> int:
        if key in below:
            raise ValueError(f"{' builds on '.join([*below, key])}: a circle")
        if key not in depth:
            depth[key] = max((1 + depth_of(s.parent, (*below, key)) for s in steps if s.child == key), default=0)
        return depth[key]

    found = [[key for key in keys if depth_of(key) == i] for i in range(1 + max(map(depth_of, keys), default=-1))]
    place: dict[str, float] = {}
    for column in found:
        above = {key: [place[s.parent] for s in steps if s.child == key] for key in column}
        column.sort(key=lambda key: sum(above[key]) / len(above[key]) if above[key] else len(keys))
        place |= {key: i - (len(column) - 1) / 2 for i, key in enumerate(column)}
    return found


def draw(labels: dict[str, str], links: dict[str, str], steps: list[Step]) -> str:
    """The drawing, an SVG in the page itself: it takes the page's colours and needs no script."""
    found = columns([*labels], steps)
    height = max(map(len, found)) * (HEIGHT + DOWN) - DOWN + 4
    width = len(found) * (WIDTH + ACROSS) - ACROSS + 4
    at = {
        key: (2 + i * (WIDTH + ACROSS), height / 2 + (j - len(column) / 2) * (HEIGHT + DOWN) + DOWN / 2)
        for i, column in enumerate(found)
        for j, key in enumerate(column)
    }
    parts = [_line(at[s.parent], at[s.child], s, labels) for s in steps]
    parts += [_box(*at[key], label, links[key], load_facts(key)["paper"]["year"]) for key, label in labels.items()]
    label = "Map of the papers; every step is told in words below."
    return (
        f'<div class="paper-map"><svg viewBox="0 0 {width} {height}" style="min-width:{width * 0.8:.0f}px" '
        f'role="group" aria-label="{label}">{"".join(parts)}</svg></div>'
    )


def _box(x: float, y: float, label: str, link: str, year: int) -> str:
    lines = textwrap.wrap(label, 19)
    if len(lines) > 2:  # for "positional encodings" there is just room
        lines = textwrap.wrap(label, 21)[:2]
    top = y + HEIGHT / 2 - 7 * len(lines) + 4
    texts = [f'<text x="{x + 10}" y="{top + 14 * i:.1f}">{html.escape(line)}</text>' for i, line in enumerate(lines)]
    return (
        f'<a href="{html.escape(link)}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f"{''.join(texts)}"
        f'<text class="year" x="{x + WIDTH - 7}" y="{y + HEIGHT - 6}">{year}</text></a>'
    )


def _line(start: tuple[float, float], end: tuple[float, float], step: Step, labels: dict[str, str]) -> str:
    x0, y0, x1, y1 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0], end[1] + HEIGHT / 2
    told = html.escape(f"{labels[step.child]} changed {labels[step.parent]}: {step.change}")
    kind = "imports" if step.imports else "idea"
    middle = ACROSS / 2
    curve = f"M{x0},{y0} C{x0 + middle},{y0} {x1 - middle},{y1} {x1},{y1}"
    return f'<path class="{kind}" d="{curve}"><title>{told}</title></path>'


def _words(step: Step, page: Callable[[str], str]) -> str:
    taken = ", ".join(f"`{name}`" for name in step.imports if not name.startswith("_"))
    return f"- {{doc}}`/{page(step.child)}` on {{doc}}`/{page(step.parent)}`: {step.change}." + (
        f" Its module imports {taken}." if taken else ""
    )


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("map", Map)
