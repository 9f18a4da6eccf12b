"""What a chapter's outputs depend on: its cells, and every file of the package that they import, directly or not."""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "attention_notes"
_CODE_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::[^\n]*\n)+)", re.MULTILINE | re.DOTALL)


def code_cells(text: str) -> list[str]:
    """The sources of a chapter's code cells, without their options."""
    return [_OPTIONS.sub("", cell) for cell in _CODE_CELL.findall(text)]


def files_behind(chapter: Path, root: Path) -> list[Path]:
    """The files whose change may change the outputs of ``chapter``, sorted, the chapter itself left out.

    These are the modules that its cells import, the modules that those import, what lies beside a package among them
    and is no Python, the chapter's own facts (all facts, where it goes over every model) and its record, and the lock.
    """
    package = root / "src" / PACKAGE
    waiting = [*modules(chapter.read_text(encoding="utf-8"))]
    found: set[Path] = set()
    while waiting:
        for file in _files_of(waiting.pop(), package):
            if file not in found:
                found.add(file)
                waiting += _imported(file.read_text(encoding="utf-8"))
    facts = "*" if package / "zoo" / "__init__.py" in found else chapter.stem
    extra = (
        *package.glob(f"facts/{facts}.yml"),
        package / f"facts/{chapter.stem}.evidence.json",
        root / "requirements.txt",
    )
    packages = [file.parent for file in found if file.name == "__init__.py"]
    beside = (file for folder in packages for file in folder.iterdir() if file.suffix in {".json", ".js", ".css"})
    return sorted([*found, *beside, *(file for file in extra if file.exists())])


def fingerprint(chapter: Path, root: Path) -> str:
    """One hash of the chapter's cells and of all the files behind them: equal hash, equal outputs."""
    digest = hashlib.sha256("\0".join(code_cells(chapter.read_text(encoding="utf-8"))).encode())
    for file in files_behind(chapter, root):
        digest.update(f"\0{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def folder_fingerprint(*folders: Path) -> str:
    """One hash of all files in some folders, whatever Python compiled there left out."""
    digest = hashlib.sha256()
    for file in sorted(f for folder in folders for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc"):
        digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def modules(chapter_text: str) -> Iterator[str]:
    """The modules of the package that a chapter's cells import, by dotted name."""
    for cell in code_cells(chapter_text):
        yield from _imported(re.sub(r"(?m)^\s*[%!].*$", "", cell))


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
