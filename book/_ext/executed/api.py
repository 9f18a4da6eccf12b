"""The page of the whole package, made from its docstrings: every public module, by room and by paper.

Nothing is listed by hand. A paper or a room shows what is imported from it, any other module what is defined in it;
names that begin with an underscore, and what only chapters use, are left out. Nothing is shown twice.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

PAGE = "book/pages/api"
PLACE = "<!-- the modules -->"
PACKAGE = "attention_notes"
ROOMS = {
    "papers": "Papers",
    "nn": "Parts that know no paper",
    "inspect": "Looking into a model",
    "images": "Pictures and classes",
    "weights": "Weights",
    "registry": "Every model by its name",
    "claims": "Statements and their verdicts",
    "training": "Training for real",
}


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    for extension in ("sphinx.ext.autodoc", "sphinx.ext.napoleon"):
        app.setup_extension(extension)
    app.config.autodoc_member_order = "bysource"
    app.config.autodoc_typehints_format = "short"
    app.config.add_module_names = False
    app.config.html_domain_indices = False  # the page itself is the index
    app.config.toc_object_entries = False  # two thousand links beside it, where its modules are enough
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _write_modules)
    app.connect("html-page-context", _lighten)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _name_defaults)
    app.connect("autodoc-process-docstring", _show_equations, priority=900)  # after napoleon


def documented(package: Path) -> str:
    """The page's text below its introduction."""
    lines: list[str] = []
    for room, title in ROOMS.items():
        lines += [f"## {title}", ""]
        for name, left_out in shown(package, room):
            lines += [f"### `{name}`", "", "```{eval-rst}"]
            lines += [f".. automodule:: {PACKAGE}.{name}.model", "   :no-index:", ""] if room == "papers" else []
            lines += [f".. automodule:: {PACKAGE}.{name}", "   :members:"]
            lines += ["   :imported-members:"] if _exported(_file(package, name)) else []
            lines += [f"   :exclude-members: {', '.join(sorted(left_out))}"] if left_out else []
            lines += ["   :no-index:"] if name.rpartition(".")[2] in _exported(_above(package, name)) else []
            lines += ["```", ""]
    return "\n".join(lines)


def shown(package: Path, room: str) -> Iterator[tuple[str, set[str]]]:
    """The modules of a room by their names in the package, and which of their names stand elsewhere or are modules."""
    if room == "papers":
        names = [f"papers.{file.parent.name}" for file in sorted((package / room).glob("*/model.py"))]
    else:
        files = sorted(file.relative_to(package).with_suffix("") for file in (package / room).rglob("*.py"))
        names = [".".join(file.parts).removesuffix(".__init__") for file in files]
        names.sort(key=lambda name: (name.count("."), name))
    for name in names:
        exported = _exported(_file(package, name))
        foreign = {word for word, home in exported.items() if home != name and not home.startswith(f"{name}.")}
        above = _exported(_above(package, name)) if room != "papers" else {}
        yield name, foreign | {word for word, home in above.items() if home == name}


def _file(package: Path, name: str) -> Path:
    place = package.joinpath(*name.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _above(package: Path, name: str) -> Path:
    return _file(package, name.rpartition(".")[0]) if "." in name else package / "no such file"


def _exported(file: Path) -> dict[str, str]:
    """The names in a module's ``__all__``, each with the module that defines it; of a module none."""
    package = next((folder for folder in file.parents if folder.name == PACKAGE), file)
    if not file.exists():
        return {}
    exported, _ = _face(file.read_text(encoding="utf-8"))
    return {name: _home(package, file, name) for name in exported}


def _home(package: Path, file: Path, name: str) -> str:
    """The module that defines what ``file`` calls ``name``, however often it was imported on the way."""
    _, imported = _face(file.read_text(encoding="utf-8"))
    if name in imported:
        module, original = imported[name]
        inner = _file(package, module)
        if inner.name == "__init__.py" and _file(inner.parent, original).exists():
            return ""
        return _home(package, inner, original)
    return ".".join(file.relative_to(package).with_suffix("").parts).removesuffix(".__init__")


@cache  # by the text: what a paper hands out is looked for in the same few modules again and again
def _face(text: str) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """A module's ``__all__``, and what it imports from the package: each name, its module there and its name in it."""
    exported: list[str] = []
    imported: dict[str, tuple[str, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported += ast.literal_eval(node.value)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            module = str(node.module).removeprefix(f"{PACKAGE}.")
            for alias in node.names:
                imported.setdefault(alias.asname or alias.name, (module, alias.name))
    return exported, imported


def _outdated(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The page, when modules came or went; what changes in one of them Sphinx sees."""
    text = documented(Path(app.srcdir) / "src" / PACKAGE)
    before, env.book_api = getattr(env, "book_api", text), text
    return [PAGE] if before != text and PAGE in env.all_docs else []


def _write_modules(app: Sphinx, docname: str, text: list[str]) -> None:
    if docname == PAGE:
        text[0] = text[0].replace(PLACE, documented(Path(app.srcdir) / "src" / PACKAGE))


_WORD = re.compile(
    r'<span class="(?:pre|[nopsw]|default_value|colon|sig-return(?:-icon|-typehint)?)">((?:[^<]|</?a\b[^>]*>)*)</span>'
)


def _lighten(app: Sphinx, docname: str, template: str, context: dict[str, Any], document: Any) -> None:
    """Leave out the tags round single words and signs of signatures, most of the page's, which nothing styles."""
    found = int(docname == PAGE)
    while found:  # one may stand in another
        context["body"], found = _WORD.subn(r"\1", context["body"])


def _skip(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """What Python itself says of a tuple's fields tells nobody anything."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def _name_defaults(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Classes and functions that are defaults by their names; then Sphinx can read types, and shortens them itself."""
    if signature and "<" in signature:
        signature = re.sub(r"<(?:function )?(?:[\w.]*<lambda>|factory)>", "...", signature)
        signature = re.sub(r"<(?:class|function) '?(?:\w+\.)*(\w+)'?>", r"\1", signature)
    return signature, returned


def _show_equations(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A paragraph that is indented, and is no list, is an equation or code, and is shown as it is written.

    What a paper's folder says is left out, for its module, which stands before it, says the same and more. What stands
    before a colon in the sentence of a property is no type, though napoleon takes it for one.
    """
    if what == "property" and (kind := next((line for line in lines if line.startswith(":type: ")), "")):
        lines[:] = [f"{kind.removeprefix(':type: ')}: {lines[0]}", *(line for line in lines[1:] if line != kind)]
    if what == "module" and name.startswith(f"{PACKAGE}.papers.") and not name.endswith(".model"):
        lines.clear()
    paragraphs = "\n".join(lines).split("\n\n")
    lines[:] = "\n\n".join(
        f".. code-block:: text\n\n{part}"
        if part.startswith("    ") and part.lstrip()[:2] not in ("- ", ":p", "..")
        else part
        for part in paragraphs
    ).split("\n")
