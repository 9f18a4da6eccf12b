"""Name the axes of shapes: by a function's annotations or by what is said of a name, and by the sizes always."""

import ast
import operator
import re
from collections.abc import Mapping
from types import FunctionType, UnionType
from typing import Any, Union, get_args, get_origin

from attention_notes.chapters.code_walk.follow import RETURN, Path, Seen
from attention_notes.chapters.code_walk.lines import name_of

Shape = tuple[int, ...]
Sizes = Mapping[str, int | Shape]
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}


class Axes:
    """The axes of one call of a function: a letter has one size in all of them.

    Args:
        function: its jaxtyping annotations name the axes of what it is given and returns.
        said: axes of other names, as ``{"q": "b h n d"}``.
    """

    def __init__(self, function: FunctionType, said: Mapping[str, str]) -> None:
        self.function, self.said = function, said
        self.sizes: Sizes = {}

    def of(self, seen: Seen, *, given: bool) -> str:
        """The axes of a tensor, or nothing where none are known; ``given`` says that it is an argument.

        An argument's name that is bound again inside the function need not keep its axes. It does if the sizes say so,
        and they can: each axis with a size of its own.

        Raises:
            ValueError: if sizes contradict each other, or the axes.
        """
        returned = seen.name == RETURN
        annotation = self.function.__annotations__.get("return" if returned else seen.name)
        choices, certain = alternatives(annotation, seen.path), given or returned
        if seen.name in self.said and not (certain and choices):
            choices, certain = [self.said[seen.name]], True
        errors = []
        for axes in choices:
            try:
                sizes = fit(axes, seen.shape, self.sizes)
            except ValueError as error:
                errors.append(error)
                continue
            if not certain and len(set(seen.shape)) < len(seen.shape):
                return ""
            self.sizes = sizes
            return "" if axes.strip() == "..." else " ".join(axes.split())
        if errors and certain:
            raise ValueError(f"{name_of(self.function)}: {seen.name} is {shown(seen.shape)}, but {errors[0]}")
        return ""


def alternatives(annotation: Any, path: Path) -> list[str]:
    """The axes that an annotation allows, as ``["b n c"]``; at a place in a tuple, if there is a path to it."""
    inner, origin = get_args(annotation), get_origin(annotation)
    if hasattr(annotation, "dim_str"):
        return [] if path else [annotation.dim_str]
    if origin in (Union, UnionType):
        return [axes for part in inner for axes in alternatives(part, path)]
    if origin in (tuple, list) and path:
        alike = origin is list or Ellipsis in inner
        return alternatives(inner[0 if alike else path[0]], path[1:])
    return []


def fit(axes: str, shape: Shape, sizes: Sizes) -> Sizes:
    """The known ``sizes`` and those that follow if a tensor of that shape has these axes.

    Axes are those of jaxtyping: letters, numbers, ``_`` for any, ``*b`` for several, and sums such as ``n+1``.

    Raises:
        ValueError: if they do not fit, with the axis and both sizes.
    """
    names, parts = axes.split(), list[int | Shape](shape)
    star = next((i for i, name in enumerate(names) if name.startswith(("*", "..."))), None)
    if star is not None:
        width = len(shape) - len(names) + 1
        parts[star : star + width] = [shape[star : star + width]]
    if len(parts) != len(names):
        raise ValueError(f"{axes!r} has {len(names)} axes")
    known = dict(sizes)
    for name, size in zip(names, parts, strict=True):
        expected = _expected(name, size, known)
        if expected != size:
            raise ValueError(f"{name} of {axes!r} is {shown(size)} here and {shown(expected)} elsewhere")
        if re.match(r"\*?[a-zA-Z]\w*$", name):
            known[name] = size
    return known


def shown(size: int | Shape) -> str:
    """Sizes as the book writes them: 2 x 3 x 197."""
    return str(size) if isinstance(size, int) else " x ".join(map(str, size)) or "a single number"


def _expected(name: str, size: int | Shape, known: Sizes) -> Any:
    if name in known:
        return known[name]
    if re.match(r"[\w+*/()-]*[\w)]$", name) and not re.match(r"\*|[a-zA-Z_]\w*$", name):
        try:
            return _reckoned(ast.parse(name, mode="eval").body, known)
        except LookupError:  # of axes that nothing has shown yet
            return size
    return size


def _reckoned(node: ast.expr, known: Sizes) -> Any:
    """The value of an axis such as ``n+1``."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_reckoned(node.left, known), _reckoned(node.right, known))
    raise ValueError(f"an axis is reckoned with + - * // alone, not as {ast.unparse(node)!r}")
