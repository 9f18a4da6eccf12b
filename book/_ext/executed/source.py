"""The directive ``{source}``: shows the code that runs, taken from the package, so that it is never retyped."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Source(SphinxDirective):
    """``{source} attention_notes.nn.attention.attention`` shows that function, class, method or module.

    What checks its input and the docstrings are left out: the page says them in its own words.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            text = source_of(self.arguments[0], Path(self.env.app.srcdir))
        except LookupError as error:
            raise self.error(str(error)) from error
        block = nodes.literal_block(text, text, language="python", classes=["source"])
        self.set_source_info(block)
        return [block]


def source_of(name: str, root: Path) -> str:
    """The source of an object of the package, by its dotted name.

    Raises:
        LookupError: if there is no such module or object.
    """
    file, parts = root / "src", name.split(".")
    while parts and (file / parts[0]).is_dir():
        file = file / parts.pop(0)
    if parts and (home := _handed_on(file / "__init__.py", parts[0])):
        return source_of(".".join([home, *parts]), root)
    if parts:
        file = file / f"{parts.pop(0)}.py"
    if not file.is_file():
        raise LookupError(f"{{source}} {name}: no module {file.relative_to(root)}")
    text = file.read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    node: ast.stmt | None = None
    for part in parts:
        node = next((n for n in body if part in _names(n)), None)
        if node is None:
            raise LookupError(f"{{source}} {name}: {file.name} has no {part!r}")
        body = getattr(node, "body", [])
    if node is None:
        return text
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    left_out = {number for part in ast.walk(node) for number in _aside(part)}
    lines = enumerate(text.splitlines()[first - 1 : node.end_lineno], start=first)
    shown = "\n".join(line[node.col_offset :].rstrip() for number, line in lines if number not in left_out)
    return re.sub(r":\n\n", ":\n", shown)  # what a docstring stood apart from


def _aside(node: ast.AST) -> Iterator[int]:
    """The lines of a docstring, of an ``if`` that does nothing but refuse, and of a call of ``_check...``."""
    parts: list[ast.stmt] = []
    if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None and len(node.body) > 1:
        parts = node.body[:1]
    elif isinstance(node, ast.stmt) and _refuses(node):
        parts = [node]
    for part in parts:
        yield from range(part.lineno, (part.end_lineno or part.lineno) + 1)


def _refuses(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.body[-1], ast.Raise) and not node.orelse
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("_check")


def _handed_on(package: Path, name: str) -> str | None:
    """The module from which a package imports a name to hand it on."""
    if not package.is_file():
        return None
    imports = (n for n in ast.parse(package.read_text(encoding="utf-8")).body if isinstance(n, ast.ImportFrom))
    return next((n.module for n in imports if name in [alias.name for alias in n.names]), None)


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("source", Source)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
