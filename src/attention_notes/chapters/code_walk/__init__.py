"""Walk through a function: the equation, the line of code, the shape of its tensors, side by side.

The shapes are those of a real run, and the lines those of the function that ran, so that neither can be wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from attention_notes.chapters.code_walk.axes import Axes, shown
from attention_notes.chapters.code_walk.follow import RETURN, Event, Seen, follow
from attention_notes.chapters.code_walk.lines import Statement, function_of, name_of, statements

_TIMES = {1: "", 2: "twice"}


@dataclass(frozen=True)
class Shape:
    """Tensors of one shape: their names in the code, their axes where these are known, and the sizes."""

    names: tuple[str, ...]
    axes: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A statement, or with ``entered`` a function and what it is given; ``times`` counts how often it ran."""

    equations: tuple[str, ...]
    code: str
    shapes: tuple[Shape, ...]
    times: int
    entered: bool


@dataclass(frozen=True)
class Walk:
    """What ``walk`` found, in the order in which it ran; a notebook shows it as a table of three columns."""

    rows: tuple[Row, ...]

    def __repr__(self) -> str:
        lines = []
        for row in self.rows:
            lines += [row.code, *(f"    {shape}" for shape in _shapes(row, ""))]
            lines += [f"    equation: {equation}" for equation in row.equations]
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/markdown": self.markdown()}

    def markdown(self) -> str:
        """The table, within an element of the class ``walk``."""
        table = ["| equation | code | shape |", "|:---|:---|:---|"]
        for row in self.rows:
            code = _code(row.code)
            cells = ["<br>".join(map(_formula, row.equations)), f"**{code}**" if row.entered else code]
            table.append(f"| {' | '.join([*cells, '<br>'.join(_shapes(row, '`'))])} |")
        return "\n".join(['<div class="walk">', "", *table, "", "</div>"])


def walk(
    target: Any,
    *inputs: Any,
    equations: Mapping[str, str] | None = None,
    axes: Mapping[str, str] | None = None,
    into: Iterable[Any] = (),
    **options: Any,
) -> Walk:
    """Run a module or a function, and show line by line what came out of each statement.

    Statements that bind or return no tensor are left out, unless they have an equation. One that ran several times is
    one row, with every shape that it had.

    Args:
        target: a module, a method or a function; called with ``inputs`` and ``options``.
        equations: TeX for statements, by a piece of code that only the statement meant has.
        axes: axes of names that no annotation tells, as ``{"q k v": "b h n d"}``.
        into: further functions, or classes of modules, to follow wherever they are called.

    Raises:
        ValueError: if an equation's piece of code is in no line, in two, or in one that did not run; if a function was
            not called, or a name not bound; if axes contradict the sizes.

    Example:
        >>> walk(SelfAttention(6, heads=2), torch.randn(1, 5, 6), axes={"q k v": "b h n d"})
    """
    functions = dict.fromkeys(map(function_of, (target, *into)))
    plans = {function: statements(function) for function in functions}
    formulas = _matched(equations or {}, plans)
    said = {name: letters for names, letters in (axes or {}).items() for name in names.replace(",", " ").split()}
    events = follow(plans, lambda: target(*inputs, **options))
    _check_ran(events, plans, formulas, said)
    return Walk(tuple(_rows(events, formulas, said)))


Formulas = Mapping[tuple[FunctionType, Statement], Sequence[str]]


def _matched(equations: Mapping[str, str], plans: Mapping[FunctionType, Sequence[Statement]]) -> Formulas:
    """The equations of each statement."""
    formulas: dict[tuple[FunctionType, Statement], list[str]] = {}
    for piece, equation in equations.items():
        hits = [(function, part) for function, plan in plans.items() for part in plan if piece in part.code]
        if len(hits) != 1:
            where = f"{len(hits)} lines: {'; '.join(part.code for _, part in hits)}" if hits else "no line"
            raise ValueError(
                f"the equation {equation!r} belongs to the line with {piece!r}, but "
                f"{', '.join(map(name_of, plans))} has that in {where}"
            )
        formulas.setdefault(hits[0], []).append(equation)
    return formulas


def _check_ran(
    events: Sequence[Event], plans: Iterable[FunctionType], formulas: Formulas, said: Mapping[str, str]
) -> None:
    if idle := [name_of(function) for function in plans if function not in {event.function for event in events}]:
        raise ValueError(f"{', '.join(idle)} was not called: leave it out, or walk through what calls it")
    ran = {(event.function, event.statement) for event in events}
    for place, found in formulas.items():
        if place not in ran:
            raise ValueError(f"the equation {found[0]!r} belongs to {place[1].code!r}, which these inputs do not reach")
    if unbound := sorted(said.keys() - {seen.name for event in events for seen in event.tensors}):
        raise ValueError(f"axes are said of {', '.join(unbound)}, but no tensor has that name")


def _rows(events: Sequence[Event], formulas: Formulas, said: Mapping[str, str]) -> list[Row]:
    calls: dict[int, Axes] = {}
    found: dict[tuple[FunctionType, Statement | None], list[Sequence[Shape]]] = {}
    for event in events:
        scope = calls.setdefault(event.call, Axes(event.function, said))
        shapes = _alike([(seen, scope.of(seen, given=event.statement is None)) for seen in event.tensors])
        found.setdefault((event.function, event.statement), []).append(shapes)
    rows = []
    for (function, statement), runs in found.items():
        shapes = tuple(dict.fromkeys(shape for run in runs for shape in run))
        equations = tuple(formulas.get((function, statement), ())) if statement else ()
        if shapes or equations or not statement:
            code = statement.code if statement else f"{name_of(function)}({_given(shapes)})"
            rows.append(Row(equations, code, shapes, len(runs), statement is None))
    return rows


def _alike(tensors: Sequence[tuple[Seen, str]]) -> Sequence[Shape]:
    """Tensors of one shape together, in the order of the first of each."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for seen, axes in tensors:
        groups.setdefault((axes, seen.shape), []).append(seen.name + "".join(f"[{i}]" for i in seen.path))
    return [Shape(tuple(names), *key) for key, names in groups.items()]


def _given(shapes: Iterable[Shape]) -> str:
    return ", ".join(dict.fromkeys(name.partition("[")[0] for shape in shapes for name in shape.names))


def _shapes(row: Row, quote: str) -> list[str]:
    lines = []
    for shape in row.shapes:
        names = ", ".join(name if name == RETURN else f"{quote}{name}{quote}" for name in shape.names)
        axes = f"{quote}{shape.axes}{quote} = " if shape.axes else ""
        lines.append(f"{names}: {axes}{shown(shape.sizes)}")
    return [*lines, *([f"({_TIMES.get(row.times, f'{row.times} times')})"] if row.times > 1 else [])]


def _code(code: str) -> str:
    """Code in a cell of a table."""
    fence = "``" if "`" in code else "`"
    return f"{fence}{code}{fence}".replace("|", r"\|")


def _formula(equation: str) -> str:
    """TeX in a cell of a table, where a bar would end the cell."""
    bare = equation.replace(r"\|", r"\Vert{}").replace("|", r"\vert{}")
    return bare if "$" in bare else f"${bare}$"
