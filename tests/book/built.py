"""The book's files, and the plain command that builds it."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import yaml
from executed import rooms

from attention_notes.claims import papers

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = rooms.executed_files(ROOT)
NOTEBOOKS = [chapter.stem for chapter in CHAPTERS]
KEYS = [name for name in NOTEBOOKS if name in papers()]  # those that tell of a paper


def page_of(name: str) -> str:
    """Where a chapter or another page lies, in the book as on the site: ``book/chapters/vit``."""
    return rooms.page_of(name, ROOT)


def form_of(key: str) -> str:
    """The form of a chapter, as it says in its front matter: full, middle or light."""
    return str(yaml.safe_load((ROOT / f"{page_of(key)}.md").read_text(encoding="utf-8").split("---")[1])["form"])


# What a chapter of each form has at least: formulas on its page, cells with a check, and slides. GPT's paper has one
# equation, and its chapter the fewest formulas of the full ones.
LEAST = {
    "full": {"formulas": 15, "checks": 5, "slides": 4},
    "middle": {"formulas": 12, "checks": 4, "slides": 4},
    "light": {"formulas": 10, "checks": 3, "slides": 3},
}


def base_of(repository: str) -> SplitResult:
    """Where the site will be: https://github.com/a/b is shown at https://a.github.io/b/."""
    owner, name = repository.rstrip("/").split("/")[-2:]
    return urlsplit(f"https://{owner}.github.io/{name}/")


def pages_of(toc: str) -> list[str]:
    """The pages of the book in their order, as ``book/chapters/vit``."""
    contents = yaml.safe_load(toc)
    return [contents["root"], *(page["file"] for part in contents["parts"] for page in part["chapters"])]


PAGES = pages_of((ROOT / "_toc.yml").read_text(encoding="utf-8"))
BASE = base_of(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"])


def jupyter_book(root: Path) -> subprocess.CompletedProcess[str]:
    """The plain command, at the root of a checkout, with that checkout's package."""
    return subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "build", "."],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
