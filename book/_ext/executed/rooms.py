"""Where the pages of the book lie: its chapters in one room, everything else that is read in another."""

from pathlib import Path

from .closure import code_cells

CHAPTERS, PAGES = "book/chapters", "book/pages"


def page_of(name: str, root: Path) -> str:
    """The page of a chapter's key, or of another page's name, as Sphinx calls it: ``book/chapters/vit``."""
    return f"{PAGES if (root / PAGES / f'{name}.md').exists() else CHAPTERS}/{name}"


def source_file(name: str, root: Path) -> Path:
    """The file of a chapter or another page; the twin, if there is one, lies beside it."""
    return root / f"{page_of(name, root)}.md"


def executed_files(root: Path) -> list[Path]:
    """The files of the pages that have cells, and so a twin, the chapters first."""
    files = [file for room in (CHAPTERS, PAGES) for file in sorted((root / room).glob("*.md"))]
    return [file for file in files if code_cells(file.read_text(encoding="utf-8"))]
