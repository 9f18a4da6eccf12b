"""The cells of a chapter that its trained statements need, and one hash of the code that these run.

The recorder executes this slice instead of the whole chapter, and a record stays valid as long as the hash does. The
hash is made of statements and definitions, wherever they stand, so it does not change when a file is moved or a cell is
cut in two, or with a docstring, an annotation, a comment, a bound, or a cell that no training needs.
"""

import ast
import hashlib
import math
import re
import symtable
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attention_notes.claims import ClaimError, calls, claims

from .closure import PACKAGE, code_cells

# What draws and shows computes nothing that a check is given, and no training begins with published weights.
_SHOWS = re.compile(r"claims|weights|chapters\.(plots|widgets|code_walk|tables)|papers\.\w+\.figures")
_MEASURES = {"above", "below", "within", "found"}
_PURE = {
    "print",
    "len",
    "min",
    "max",
    "sum",
    "sorted",
    "zip",
    "range",
    "enumerate",
    "float",
    "int",
    "str",
    "round",
    "all",
}
_PURE |= {"any", "set", "list", "tuple", "dict", "isinstance", "check", "close", "equal", "true", "rounds", *_MEASURES}
_PURE |= {"count_parameters", "count_macs", "rearrange", "reduce", "repeat", "einsum"}
_PURE_ROOTS = {"torch", "F", "math", "plots", "np"}
_DATA = re.compile(r"[\w.-]+\.(?:gz|txt|tsv|csv|json)")


def trained_bounds(key: str, chapter: str) -> dict[str, dict[str, tuple[float, float]]]:
    """For each trained statement of a chapter, the measurements of its check by name, with the bounds as written.

    Raises:
        ClaimError: if a name or a bound is not written out, so that no one could hold a record to it.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    trained = {claim.id for claim in claims(key).values() if claim.kind == "trained"}
    for cell in code_cells(chapter):
        for node in ast.walk(ast.parse(cell)):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "check"):
                continue
            claim_id = ast.literal_eval(node.args[0])
            if claim_id in trained:
                found[claim_id] = dict(_bound(claim_id, measure) for measure in node.args[1:])
    return found


def _bound(claim_id: str, measure: ast.expr) -> tuple[str, tuple[float, float]]:
    kind = ast.unparse(measure.func) if isinstance(measure, ast.Call) else ""
    if not isinstance(measure, ast.Call) or kind not in _MEASURES:
        raise ClaimError(
            f"{claim_id} is trained: pass {', '.join(sorted(_MEASURES))} to its check, not {ast.unparse(measure)}"
        )
    try:
        name, *bounds = (ast.literal_eval(part) for part in (measure.args[0], *measure.args[2:]))
    except ValueError:
        raise ClaimError(
            f"{claim_id} is trained: write names and bounds out, unlike in {ast.unparse(measure)}"
        ) from None
    low, high = {"above": (0, None), "below": (None, 0), "within": (0, 1), "found": (None, None)}[kind]
    return name, (-math.inf if low is None else bounds[low], math.inf if high is None else bounds[high])


def needed_cells(key: str, chapter: str) -> list[str]:
    """The cells, in their order, that the trained statements need: each that binds or may change what they read.

    Names are followed from the last such check backwards, through the functions that a cell calls. A cell that only
    passes a needed object to an unknown function is kept, because the function may change it.
    """
    cells = code_cells(chapter)
    trained = {claim.id for claim in claims(key).values() if claim.kind == "trained"}
    wanted = {i for i, cell in enumerate(cells) if trained & {*calls(cell)}}
    read, bound, changed = zip(*map(_names, cells), strict=True) if cells else ((), (), ())
    inside: dict[str, set[str]] = {}
    for cell in cells:
        for name, names in _functions(cell):
            inside.setdefault(name, set()).update(names)
    assigned = {name for cell in cells for name in _assigned(cell)}
    needed: set[str] = set()
    kept: list[int] = []
    for i in reversed(range(len(cells))):
        if i in wanted or needed & (bound[i] | changed[i] & assigned):
            kept.append(i)
            needed = (needed - bound[i]) | _closed(read[i], inside)
    return [cells[i] for i in reversed(kept)]


def code_hash(cells: list[str], root: Path) -> str:
    """One hash of cells and of every definition of the package that they reach."""
    known = _Definitions(root / "src" / PACKAGE)
    trees = [ast.parse(cell) for cell in cells]
    names = {name: target for tree in trees for name, target in _imports(tree, "")}
    for tree in trees:
        known.follow(tree, names)
    statements = [text for tree in trees for node in tree.body if (text := _dump(node))]
    return hashlib.sha256("\0".join([*statements, *sorted(known.found)]).encode()).hexdigest()[:16]


def _closed(names: set[str], inside: dict[str, set[str]]) -> set[str]:
    """Names, and those that the functions among them read when they are called."""
    found, waiting = set[str](), [*names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += inside.get(name, ())
    return found


def _names(cell: str) -> tuple[set[str], set[str], set[str]]:
    """What a cell reads, binds, and may change in place, by name."""
    table = symtable.symtable(cell, "cell", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    tree = ast.parse(cell)
    return _read(table), bound, {name for node in ast.walk(tree) for name in _changed(node)}


def _assigned(cell: str) -> set[str]:
    """What a cell binds to objects, other than functions, classes and imports, which no call changes."""
    table = symtable.symtable(cell, "cell", "exec")
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() and not (s.is_imported() or s.is_namespace())}


def _read(table: symtable.SymbolTable) -> set[str]:
    at_top = table.get_type() == "module"
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (at_top or s.is_global())}
    return found.union(*map(_read, table.get_children()))


def _functions(cell: str) -> Iterator[tuple[str, set[str]]]:
    for child in symtable.symtable(cell, "cell", "exec").get_children():
        yield child.get_name(), _read(child)


def _changed(node: ast.AST) -> Iterator[str]:
    """Names that a node may change in place: what is passed to unknown functions, assigned into, or asked to act."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        yield from _root(node)
    if isinstance(node, ast.Call):
        callee = node.func
        quiet = isinstance(callee, ast.Name) and callee.id in _PURE
        if isinstance(callee, ast.Attribute):
            roots = [*_root(callee)]
            quiet = bool(roots) and roots[0] in _PURE_ROOTS and not callee.attr.endswith("_")
            yield from () if quiet else roots
            quiet = quiet or callee.attr == "to"
        if not quiet:
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from (name.id for name in ast.walk(part) if isinstance(name, ast.Name))


def _root(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Name):
        yield node.id


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """The names that imports anywhere in a tree bind, and the dotted name of what each stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield alias.asname or alias.name, f"{origin}.{alias.name}"


class _Definitions:
    """The definitions of the package that were reached, as text without their place."""

    def __init__(self, package: Path):
        self.package, self.found = package, set[str]()
        self._seen = set[str]()

    def follow(self, tree: ast.AST, names: dict[str, str]) -> None:
        """Reach whatever a tree mentions, given what its names stand for."""
        for node in ast.walk(tree):
            dotted = _dotted(node)
            if dotted and dotted[0] in names:
                self.reach(".".join([names[dotted[0]], *dotted[1:]]))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _DATA.fullmatch(node.value):
                for file in self.package.rglob(node.value):
                    self.found.add(hashlib.sha256(file.read_bytes()).hexdigest())

    def reach(self, dotted: str) -> None:
        """Follow ``attention_notes.nn.mlp.MLP``, or what stands behind that name, or an attribute of it."""
        first, *parts = dotted.split(".")
        if first != PACKAGE or not parts or _SHOWS.match(".".join(parts)) or dotted in self._seen:
            return
        self._seen.add(dotted)
        folder, module = self.package, PACKAGE
        while parts:
            file = folder / parts[0] / "__init__.py" if (folder / parts[0]).is_dir() else folder / f"{parts[0]}.py"
            if not file.exists():
                break
            folder, module = folder / parts[0], f"{module}.{parts.pop(0)}"
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if not parts or not file.exists():
            return
        nodes, names, package = _module(file, module)
        for node in nodes.get(parts[0], ()):
            self.found.add(_dump(node))
            self.follow(node, {**names, **dict(_imports(node, package))})
        if parts[0] not in nodes and parts[0] in names:
            self.reach(".".join([names[parts[0]], *parts[1:]]))


@cache
def _module(file: Path, module: str) -> tuple[dict[str, list[ast.stmt]], dict[str, str], str]:
    """The statements of a module by the name that they define, what its names stand for, and its package."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _defines(node):
            nodes.setdefault(name, []).append(node)
    names = dict(_imports(tree, package)) | {name: f"{module}.{name}" for name in nodes}
    return nodes, names, package


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]


def _dotted(node: ast.AST) -> list[str]:
    """``a.b.c`` as its parts, for a chain of attributes of a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def _dump(node: object) -> str:
    """A tree as text, the same under every Python, without what computes nothing and without bounds."""
    if isinstance(node, list):
        return f"[{','.join(text for part in node if (text := _dump(part)))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Import | ast.ImportFrom) or _says_only(node):
        return ""
    fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _MEASURES:
        fields = {"args": node.args[:2]}
    for name in ("annotation", "returns", "ctx", "type_params", "type_comment", "kind"):
        fields.pop(name, None)
    return f"{type(node).__name__}({','.join(f'{name}={_dump(value)}' for name, value in sorted(fields.items()))})"


def _says_only(node: ast.AST) -> bool:
    """A docstring, or a call of print."""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return True
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print"
