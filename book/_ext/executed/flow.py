"""The directive ``{flow}``: how data flow through a model, drawn from a few lines of text.

    ```{flow}
    :name: flow-attention
    :caption: What is drawn, and what to see.
    x: tokens | b n c
    q: [W_Q] ; k: [W_K] ; v: [W_V]
    scores: (q k^T / √d) | b h n n
    out: (weighted sum)
    x -> q -> scores -> out
    x -> k -> scores
    x -> v -> out
    ```

A line of boxes is a row of the drawing, from left to right: ``name: what stands in it``, in ``[brackets]`` what has
learned weights, in ``(parentheses)`` what has none, and data as they are; after a bar the shape that leaves it. A lone
``-`` leaves a place empty, and ``//`` begins another line in a box. Lines with arrows say what goes where, with words
in quotes beside the last. ``repeat a b: × 12`` frames all rows from one box to another. A line of dashes begins another
drawing, which stands beside the first where there is room; ``title: ...`` is written above. Letters after ``_`` and
``^`` are lowered and raised.
"""

import base64
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDEST = 356  # of a drawing, so that a phone shows it at its own size
_LETTER, _SMALL, _LINE = 14, 11.5, 17  # sizes of the text, and from one line to the next
_BOLD = 1.1  # how much wider the letters of a title are
_PAD, _GAP, _DOWN, _LANE = 10, 16, 20, 16  # around a text, between boxes, between rows, from one way round to the next
_INDEX = re.compile(r"([_^])(?:\{([^}]*)\}|(\w))")
# Where no page gives colours: dark on light, as in a notebook.
_ALONE = (
    "svg{background:#fff}text{font:14px sans-serif;fill:#222;text-anchor:middle}.shape{font-size:11.5px;fill:#555}"
    ".aside{text-anchor:start}"
    "path,.frame{fill:none;stroke:#667}"
    ".box{fill:#fff;stroke:#667}.learned{fill:#dcebfa;stroke:#2f6fb0}.tip{fill:#667}.frame{stroke-dasharray:4 3}"
)


@dataclass
class Box:
    """A box of a drawing: what stands in it, of which kind it is, and where; ``x`` and ``y`` are its middle."""

    lines: list[str]
    shape: str
    kind: str
    row: int
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


@dataclass
class Drawing:
    """Boxes by name, arrows between them with their words, and frames with theirs."""

    title: str = ""
    rows: list[list[str]] = field(default_factory=list)
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)
    frames: list[tuple[str, str, str]] = field(default_factory=list)


class Flow(SphinxDirective):
    """Draws its lines, as a figure with a number."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "name": directives.unchanged_required,
        "caption": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        for option in self.option_spec:
            if option not in self.options:
                raise self.error(f"a flow needs :{option}:")
        try:
            drawings = parse(self.content)
            figure = nodes.figure(classes=["flow"])
            figure += nodes.raw("", "".join(map(draw, drawings)), format="html")
        except ValueError as error:
            raise self.error(f"{self.options['name']}: {error}") from error
        holder = nodes.Element()
        self.state.nested_parse(StringList([self.options["caption"]], source="flow"), self.content_offset, holder)
        figure += nodes.caption("", "", *holder.children[0].children)
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("flow", Flow)


def parse(lines: Iterable[str]) -> list[Drawing]:
    """Read the lines of one or more drawings.

    Raises:
        ValueError: if a line is none of the four kinds, a name stands for two boxes, or an arrow meets no box.
    """
    found = [Drawing()]
    for line in map(str.strip, lines):
        if re.fullmatch(r"-{3,}", line):
            found.append(Drawing())
        elif line:
            _read(line, found[-1])
    for drawing in found:
        named = {name for a, b, _ in (*drawing.arrows, *drawing.frames) for name in (a, b)}
        if unknown := sorted(named - drawing.boxes.keys()):
            raise ValueError(f"no box is named {', '.join(unknown)}; there are {', '.join(drawing.boxes)}")
        if not drawing.boxes:
            raise ValueError("a drawing without boxes")
    return found


def draw(drawing: Drawing, style: str = "") -> str:
    """One drawing as an SVG that takes the page's colours.

    Raises:
        ValueError: if it is wider than a phone.
    """
    ways = _lay_out(drawing)
    left = min(box.x - box.width / 2 for box in drawing.boxes.values()) - 1
    right = max(box.x + box.width / 2 for box in drawing.boxes.values()) + 1
    lanes = [x for _, _, x in ways if x is not None]
    left, right = min([left, *(x - 2 for x in lanes)]), max([right, *(x + 2 for x in lanes)])
    parts, low = list[str](), max(box.y + box.height / 2 for box in drawing.boxes.values())
    for first, last, words in drawing.frames:
        frame, left, right = _frame(drawing, first, last, words, left, right)
        parts.append(frame)
    for (source, target, words), (_, _, lane) in zip(drawing.arrows, ways, strict=True):
        parts.append(_arrow(drawing.boxes[source], drawing.boxes[target], lane, words))
    parts += [_box(box) for box in drawing.boxes.values()]
    if drawing.title:
        middle, half = (left + right) / 2, _width(drawing.title, _LETTER * _BOLD) / 2
        left, right = min(left, middle - half), max(right, middle + half)
        parts.append(f'<text class="title" x="{middle:.0f}" y="-12">{_text(drawing.title)}</text>')
    top = -30 if drawing.title else -2
    width, height = right - left + 4, low - top + 6
    if width > WIDEST:
        raise ValueError(f"the drawing is {width:.0f} wide, a phone shows {WIDEST}; shorten what stands in its boxes")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left - 2:.0f} {top} {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{html.escape(in_words(drawing))}">'
        f"{f'<style>{style}</style>' if style else ''}{''.join(parts)}</svg>"
    )


def in_words(drawing: Drawing) -> str:
    """The drawing for who does not see it: every arrow, from box to box."""
    said = {name: " ".join(box.lines) for name, box in drawing.boxes.items()}
    steps = [f"{said[a]} to {said[b]}" for a, b, _ in drawing.arrows]
    framed = [f"{said[a]} to {said[b]}: {words}" for a, b, words in drawing.frames]
    return re.sub(r"[_^{}]", "", f"{drawing.title or 'Data flow'}: {'; '.join([*steps, *framed])}.")


def plain(body: str) -> str:
    """The directive's body as Markdown with the drawings in it, for a notebook."""
    options = dict(re.findall(r"(?m)^:(\w+): (.*)$", body))
    drawings = parse(re.sub(r"(?m)^:\w+:.*$", "", body).splitlines())
    pictures = [base64.b64encode(draw(d, _ALONE).encode()).decode() for d in drawings]
    images = [
        f"![{in_words(d).replace('[', '').replace(']', '')}](data:image/svg+xml;base64,{picture})"
        for d, picture in zip(drawings, pictures, strict=True)
    ]
    return "\n".join([*images, "", options["caption"]])


def _read(line: str, drawing: Drawing) -> None:
    """One line: arrows, a frame, a title or a row."""
    if "->" in line:
        chain, _, words = line.partition('"')
        names = [name.strip() for name in chain.split("->")]
        drawing.arrows += [(a, b, "") for a, b in pairwise(names)]
        drawing.arrows[-1] = *drawing.arrows[-1][:2], words.rstrip('"')
    elif match := re.fullmatch(r"repeat (\w+) (\w+): (.*)", line):
        drawing.frames.append((match[1], match[2], match[3]))
    elif line.startswith("title: "):
        drawing.title = line.removeprefix("title: ")
    else:
        row = list[str]()
        for place, part in enumerate(map(str.strip, line.split(";"))):
            name, colon, rest = part.partition(":")
            if part == "-":
                name, rest = f"_{len(drawing.rows)}_{place}", ""
            elif not colon or not re.fullmatch(r"\w+", name):
                raise ValueError(f"{part!r} is no box: name: what stands in it")
            if name in drawing.boxes:
                raise ValueError(f"two boxes are named {name}")
            row.append(name)
            if part != "-":
                drawing.boxes[name] = _parsed_box(rest.strip(), len(drawing.rows))
        drawing.rows.append(row)


def _parsed_box(text: str, row: int) -> Box:
    text, _, shape = (part.strip() for part in text.partition(" | "))
    kind = {"[": "learned", "(": "plain"}.get(text[:1], "data")
    if kind != "data":
        if text[-1] != {"[": "]", "(": ")"}[text[0]]:
            raise ValueError(f"{text!r} is not closed")
        text = text[1:-1].strip()
    box = Box([line.strip() for line in text.split("//")], shape, kind, row)
    wide = max(*(_width(line, _LETTER) for line in box.lines), 0)
    room, shape_room = (4, 6) if kind == "data" else (2 * _PAD, 14)  # within the rounded ends
    box.width = max(wide + room, _width(shape, _SMALL) + shape_room, 26)
    box.height = _LINE * len(box.lines) + (_LINE - 3 if shape else 0) + (8 if kind != "data" else 2)
    return box


def _lay_out(drawing: Drawing) -> list[tuple[str, str, float | None]]:
    """Give every box its place, and every arrow that passes rows a lane beside them."""
    columns = max(map(len, drawing.rows))
    wide = [0.0] * columns
    for row in drawing.rows:
        if len(row) == columns:
            for i, name in enumerate(row):
                wide[i] = max(wide[i], drawing.boxes[name].width if name in drawing.boxes else 0)
    middles = [sum(wide[:i]) + i * _GAP + wide[i] / 2 for i in range(columns)]
    whole = sum(wide) + (columns - 1) * _GAP
    y = 0.0
    for row in drawing.rows:
        boxes = [drawing.boxes.get(name) for name in row]
        height = max(box.height for box in boxes if box)
        own = sum(box.width for box in boxes if box) + (len(row) - 1) * _GAP
        x = (whole - own) / 2
        for i, box in enumerate(boxes):
            if box is None:
                continue
            box.y = y + height / 2
            box.x = middles[i] if len(row) == columns else x + box.width / 2
            x += box.width + _GAP
        y += height + _DOWN
    return _lanes(drawing)


def _lanes(drawing: Drawing) -> list[tuple[str, str, float | None]]:
    boxes = [*drawing.boxes.values()]
    centre = (min(b.x - b.width / 2 for b in boxes) + max(b.x + b.width / 2 for b in boxes)) / 2
    taken: list[tuple[int, int, int, float]] = []
    ways = list[tuple[str, str, float | None]]()
    for source, target, _ in drawing.arrows:
        a, b = drawing.boxes[source], drawing.boxes[target]
        if b.row < a.row:
            raise ValueError(f"the arrow from {source} to {target} goes up")
        between = [c for c in boxes if a.row < c.row < b.row]
        if b.row - a.row < 2 or not _in_the_way(a, b, between):
            ways.append((source, target, None))
            continue
        side = -1 if (a.x + b.x) / 2 < centre - 1 else 1
        near = [c for c in between if abs(c.x - a.x) < 1 or len(drawing.rows[c.row]) == 1] or between
        edge = max(side * c.x + c.width / 2 for c in [*near, a, b]) + _LANE
        while hit := [side * c.x + c.width / 2 for c in between if abs(edge - side * c.x) < c.width / 2 + 4]:
            edge = max(hit) + _LANE  # no lane runs behind a box
        others = [x for first, last, s, x in taken if s == side and first < b.row and last > a.row]
        edge = max([edge, *(side * x + _LANE for x in others if abs(side * x - edge) < _LANE)])
        taken.append((a.row, b.row, side, side * edge))
        ways.append((source, target, side * edge))
    return ways


def _in_the_way(a: Box, b: Box, between: Iterable[Box]) -> bool:
    """Whether a line from one box to another would cross a box."""
    for c in between:
        part = (c.y - a.y) / (b.y - a.y)
        if abs(a.x + part * (b.x - a.x) - c.x) < c.width / 2 + 6:
            return True
    return False


def _arrow(a: Box, b: Box, lane: float | None, words: str) -> str:
    if a.row == b.row:
        side = 1 if b.x > a.x else -1
        x0, x1 = a.x + side * a.width / 2, b.x - side * b.width / 2
        line, tip = f"M{x0:.1f},{a.y:.1f} H{x1 - side * 6:.1f}", (x1, b.y, -side, 0)
    elif lane is None:
        y0, y1 = a.y + a.height / 2, b.y - b.height / 2
        # What comes from the side arrives beside the middle, so that arrows do not lie on one another.
        x1 = b.x + max(-b.width / 4, min(b.width / 4, (a.x - b.x) / 3))
        half = (y1 - y0) / 2
        line = f"M{a.x:.1f},{y0:.1f} C{a.x:.1f},{y0 + half:.1f} {x1:.1f},{y1 - half:.1f} {x1:.1f},{y1 - 6:.1f}"
        tip = (x1, y1, 0, -1)
    else:
        side = 1 if lane > (a.x + b.x) / 2 else -1
        x0, x1, turn = a.x + side * a.width / 2, b.x + side * b.width / 2, 8 * side
        line = f"M{x0:.1f},{a.y:.1f} H{lane - turn:.1f} q{turn},0 {turn},8 V{b.y - 8:.1f} q0,8 {-turn},8"
        line += f" H{x1 + side * 6:.1f}"
        tip = (x1, b.y, side, 0)
    x, y, dx, dy = tip
    corners = ((x, y), *((x + 7 * dx + side * 3.5 * dy, y + 7 * dy + side * 3.5 * dx) for side in (1, -1)))
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in corners)
    beside, at = (lane + 5, 0.0) if lane is not None else ((a.x + b.x) / 2 + 6, (a.height - b.height) / 4 + 4)
    said = f'<text class="shape aside" x="{beside:.1f}" y="{(a.y + b.y) / 2 + at:.1f}">{_text(words)}</text>'
    return f'<path d="{line}"/><polygon class="tip" points="{points}"/>{said if words else ""}'


def _frame(drawing: Drawing, first: str, last: str, words: str, left: float, right: float) -> tuple[str, float, float]:
    """A dashed frame around rows, its words at its upper right corner; returns the new edges of the drawing, too."""
    rows = range(drawing.boxes[first].row, drawing.boxes[last].row + 1)
    inside = [box for box in drawing.boxes.values() if box.row in rows]
    top, bottom = min(b.y - b.height / 2 for b in inside) - 8, max(b.y + b.height / 2 for b in inside) + 8
    left, right = left - 8, right + 8
    wide = _width(words, _SMALL)
    rectangle = _rectangle("frame", (left, top, right - left, bottom - top), 8)
    said = f'<text class="shape" x="{right + 6 + wide / 2:.0f}" y="{(top + bottom) / 2 + 4:.0f}">{_text(words)}</text>'
    return rectangle + said, left, right + 8 + wide


def _box(box: Box) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    parts = []
    if box.kind != "data":
        round_ = min(box.height / 2, 14) if box.kind == "plain" else 5
        parts.append(_rectangle(f"box {box.kind}", (x, y, box.width, box.height), round_))
    at = y + (4 if box.kind != "data" else 1) + _LINE * 0.76
    for line in box.lines:
        parts.append(f'<text x="{box.x:.1f}" y="{at:.1f}">{_text(line)}</text>')
        at += _LINE
    if box.shape:
        parts.append(f'<text class="shape" x="{box.x:.1f}" y="{at - 2:.1f}">{_text(box.shape)}</text>')
    return "".join(parts)


def _rectangle(kind: str, place: tuple[float, float, float, float], corner: float) -> str:
    x, y, width, height = (f"{number:.1f}" for number in place)
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{corner:g}"/>'


def _text(text: str) -> str:
    """Text with its indices, as SVG."""
    parts, at = list[str](), 0
    for match in _INDEX.finditer(text):
        parts.append(html.escape(text[at : match.start()]))
        down = 4 if match[1] == "_" else -5
        index = html.escape(match[2] or match[3])
        parts.append(f'<tspan dy="{down}" font-size="75%">{index}</tspan><tspan dy="{-down}">\u200b</tspan>')
        at = match.end()
    return "".join([*parts, html.escape(text[at:])])


def _width(text: str, size: float) -> float:
    plain = _INDEX.sub(lambda m: m[2] or m[3], text)
    return _font().getlength(plain) * size / 100 if plain else 0.0


@cache
def _font() -> Any:
    """A font wider than those that pages use, so that a text stays within its box."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 100)
