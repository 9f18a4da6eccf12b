"""A function as its statements, each in one line, with the names that it binds."""

import ast
import inspect
import io
import linecache
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Statement:
    """A statement that holds no others: where it stands in its file, its code in one line, the names it binds."""

    first: int
    last: int
    code: str
    names: tuple[str, ...]


def function_of(target: Any) -> FunctionType:
    """The function that runs when a module, a module's class, a method or a function is called.

    Raises:
        ValueError: if it is not written in Python.
    """
    is_module = isinstance(target, nn.Module) or (isinstance(target, type) and issubclass(target, nn.Module))
    method = target.forward if is_module else target
    function = inspect.unwrap(getattr(method, "__func__", method))
    if not isinstance(function, FunctionType):
        name = getattr(target, "__name__", type(target).__name__)
        raise ValueError(f"{name} is not written in Python, so there are no lines to walk through")
    return function


def name_of(function: FunctionType) -> str:
    """As one would write it: ``SelfAttention.forward``."""
    return function.__qualname__.rpartition("<locals>.")[2]


def statements(function: FunctionType) -> list[Statement]:
    """The statements of a function that hold no others, from top to bottom, whatever they stand in.

    Raises:
        ValueError: if there is no source of it, as of a lambda.
    """
    text = "".join(linecache.getlines(function.__code__.co_filename))
    lines = {line for *_, line in function.__code__.co_lines() if line}
    found = [
        node
        for node in (ast.walk(ast.parse(text)) if text else ())
        if isinstance(node, ast.FunctionDef) and node.name == function.__code__.co_name and _spans(node, lines)
    ]
    if not found:
        raise ValueError(f"there is no source of {name_of(function)} to walk through")
    node = min(found, key=lambda node: node.end_lineno - node.lineno)  # type: ignore[operator]
    return [
        Statement(part.lineno, part.end_lineno or part.lineno, _one_line(part, text), tuple(_bound(part)))
        for part in _simple(node.body)
    ]


def _spans(node: ast.FunctionDef, lines: set[int]) -> bool:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return first <= min(lines) and max(lines) <= (node.end_lineno or node.lineno)


def _simple(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue  # their lines belong to others
        parts = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        parts += [part.body for name in ("handlers", "cases") for part in getattr(node, name, [])]
        inner = [part for parts_ in parts for part in parts_]
        documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if inner:
            yield from _simple(inner)
        elif not documentation:
            yield node


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement gives to something, or whose elements it sets."""
    inside = [part for part in ast.walk(node) if isinstance(part, ast.comprehension)]
    hidden = {id(name) for part in inside for name in ast.walk(part.target)}
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Subscript) and isinstance(part.ctx, ast.Store) and id(part) not in hidden:
            name = part.value if isinstance(part, ast.Subscript) else part
            if isinstance(name, ast.Name):
                yield name.id


def _one_line(node: ast.stmt, text: str) -> str:
    """The code of a statement, without line breaks and comments."""
    code = ast.get_source_segment(text, node) or ""
    rows = code.splitlines()
    if len(rows) > 1:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                rows[token.start[0] - 1] = rows[token.start[0] - 1][: token.start[1]]
    line = ""
    for row in filter(None, (row.strip().removesuffix("\\").rstrip() for row in rows)):
        line += ("" if not line or line[-1] in "([{" or row[0] in ")]}" else " ") + row
    return line
