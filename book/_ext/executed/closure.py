"""What a chapter's outputs depend on: its cells, and every file of the package that they import, directly or not."""

import ast
import hashlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "attention_notes"
_EVERY_MODEL = Path("registry/__init__.py")  # walks the folders of all papers
_LISTS = (_EVERY_MODEL, Path("chapters/demo.py"))  # what reads the lists of published weights when it is run
_LAYOUT = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
_IN_STRING = re.compile(rf"{PACKAGE}(\.\w+)+")
_CODE_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::[^\n]*\n)+)", re.MULTILINE | re.DOTALL)


def code_cells(text: str) -> list[str]:
    """The sources of a chapter's code cells, without their options."""
    return [_OPTIONS.sub("", cell) for cell in _CODE_CELL.findall(text)]


def files_behind(chapter: Path, root: Path) -> list[Path]:
    """The files whose change may change the outputs of ``chapter``, sorted, the chapter itself left out.

    These are the modules that its cells import, and the modules that those import, by statement or by a name in a
    string; the chapter's own facts and its record; where it goes over every model, the modules, facts and lists of all
    papers; and the lock. Styles and scripts of widgets are left out: a page gets them beside its outputs.
    """
    package = root / "src" / PACKAGE
    keys = [file.parent.name for file in package.glob("papers/*/family.py")]
    waiting = [*modules(chapter.read_text(encoding="utf-8"))]
    found: set[Path] = set()
    while waiting:
        for file in _files_of(waiting.pop(), package):
            if file not in found:
                found.add(file)
                waiting += _named(file.read_text(encoding="utf-8"))
                waiting += [f"{PACKAGE}.papers.{key}.family" for key in keys] if file == package / _EVERY_MODEL else []
    facts = package.glob(f"papers/{'*' if package / _EVERY_MODEL in found else chapter.stem}/facts.yml")
    lists = package.glob("papers/*/checkpoints.yml") if found & {package / name for name in _LISTS} else ()
    others = (package / f"papers/{chapter.stem}/evidence.json", root / "requirements.txt")
    return sorted([*found, *facts, *lists, *(file for file in others if file.exists())])


def fingerprint(chapter: Path, root: Path) -> str:
    """One hash of the chapter's cells and of all the files behind them: equal hash, equal outputs."""
    digest = hashlib.sha256("\0".join(code_cells(chapter.read_text(encoding="utf-8"))).encode())
    for file in files_behind(chapter, root):
        content = _code(file.read_text(encoding="utf-8")) if file.suffix == ".py" else file.read_bytes()
        digest.update(f"\0{file.relative_to(root).as_posix()}\0".encode() + content)
    return digest.hexdigest()[:16]


def folder_fingerprint(*folders: Path) -> str:
    """One hash of all files in some folders, whatever Python compiled there left out."""
    digest = hashlib.sha256()
    for file in sorted(f for folder in folders for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc"):
        digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@cache  # by the text: the same modules stand behind many chapters, and each is asked for several times a build
def _code(text: str) -> bytes:
    """A module's tokens without comments, docstrings and line breaks, none of which an output depends on."""
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    skipped = (tokenize.COMMENT, tokenize.NL)
    tokens = (t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in skipped)
    kept = (t for t in tokens if t.start[0] not in told)
    return "\n".join(tokenize.tok_name[t.type] if t.type in _LAYOUT else t.string for t in kept).encode()


def modules(chapter_text: str) -> Iterator[str]:
    """The modules of the package that a chapter's cells import, by dotted name."""
    for cell in code_cells(chapter_text):
        yield from _named(re.sub(r"(?m)^\s*[%!].*$", "", cell))


@cache
def _named(source: str) -> tuple[str, ...]:
    """The modules that some code imports or names in a string; read once, like what ``_code`` keeps of it."""
    return tuple(_imported(source))


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _IN_STRING.fullmatch(node.value):
            yield node.value


def _files_of(name: str, package: Path) -> Iterator[Path]:
    """The files that importing ``name`` runs: packages on the way, then the module; the last part may be an object."""
    first, *parts = name.split(".")
    if first != PACKAGE:
        return
    folder = package
    yield folder / "__init__.py"
    for part in parts:
        if (folder / f"{part}.py").exists():
            yield folder / f"{part}.py"
            return
        folder = folder / part
        if not folder.is_dir():
            return
        yield folder / "__init__.py"
