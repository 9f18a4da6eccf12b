"""One style sheet for all pages: of the theme's rules those that a page can meet, then the book's own, all of them.

The theme, and what Jupyter Book brings along, style a hundred things that this book does not have: nine rules in ten
never match. A rule stays if each class and id in its selector occurs in some page or in some script.
"""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import tinycss2

THEME = (
    "basic.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "copybutton.css",
    "mystnb.*.css",
    "katex/katex.min.css",
    "sphinx-design.min.css",
)
_NAMES = re.compile(r'\s(?:class|id)="([^"]*)"')
_RELATIVE = re.compile(r"""url\((['"]?)(?![a-z]+:|/|#)([^'")]+)\1\)""")
_GROUPS = {"media", "supports", "layer", "container"}


def names_in(pages: Iterable[str], scripts: Iterable[str]) -> set[str]:
    """What a selector may name: the classes and ids of the pages, and every word of the scripts, which may add some."""
    names = {name for page in pages for found in _NAMES.findall(page) for name in found.split()}
    return names.union(*(re.findall(r"[\w-]+", script) for script in scripts))


def bundle(static: Path, own: Iterable[str], names: set[str], last: str = "") -> str:
    """The one style sheet, to lie in the folder ``static``: the theme's files there, purged, then the book's own.

    Reading the theme takes a second, so the sheet begins with a hash of all that it was made of, and ``last``, the
    sheet of the last build, is returned if that is still the same.
    """
    theme = [file for pattern in THEME for file in sorted(static.glob(pattern))]
    parts = [(file, names) for file in theme] + [(static / name, None) for name in own]
    texts = [(file, file.read_text(encoding="utf-8"), keep) for file, keep in parts]
    behind = [
        Path(__file__).read_text(encoding="utf-8"),
        *sorted(names),
        *(f"{file.name}\0{t}" for file, t, _ in texts),
    ]
    made_of = hashlib.sha256("\0".join(behind).encode()).hexdigest()
    mark = f"/* {made_of[:16]} */"
    if last.startswith(mark):
        return last
    notices = dict.fromkeys(notice for _, text, _ in texts for notice in re.findall(r"/\*!.*?\*/", text, re.DOTALL))
    sheets = [_moved("".join(_kept(_rules(text), keep)), file.parent, static) for file, text, keep in texts]
    return "\n".join([mark, *notices, *sheets])


def _rules(text: str) -> list[tinycss2.ast.Node]:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return list(tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True))


def _kept(rules: list[tinycss2.ast.Node], names: set[str] | None) -> Iterator[str]:
    """The rules that may match, one after the other; all of them if there are no names to go by."""
    for rule in rules:
        if rule.type == "error":
            raise ValueError(f"a style sheet cannot be read: {rule.message}")
        if rule.type == "at-rule":
            yield _at_rule(rule, names)
        else:
            selectors = [s for s in _selectors(rule.prelude) if names is None or _asked(s) <= names]
            if selectors:
                head = ",".join(tinycss2.serialize(s).strip() for s in selectors)
                yield f"{head}{{{_body(rule.content)}}}\n"


def _at_rule(rule: tinycss2.ast.AtRule, names: set[str] | None) -> str:
    head = f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude).rstrip()}"
    if rule.at_keyword in ("import", "charset") or "Font Awesome" in tinycss2.serialize(rule.content or []):
        return ""  # what the theme imports is in the list; its icons are drawn into the page
    if rule.content is None:
        return f"{head};"
    if rule.at_keyword not in _GROUPS:
        return f"{head}{{{_body(rule.content)}}}\n"
    inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
    kept = "".join(_kept(inner, names))
    return f"{head}{{{kept}}}\n" if kept else ""


def _selectors(prelude: list[tinycss2.ast.Node]) -> list[list[tinycss2.ast.Node]]:
    """The selectors of a rule, which commas part."""
    found: list[list[tinycss2.ast.Node]] = [[]]
    for token in prelude:
        if token == ",":
            found.append([])
        else:
            found[-1].append(token)
    return found


def _asked(selector: list[tinycss2.ast.Node]) -> set[str]:
    """The classes and ids without which the selector cannot match; what stands in :not() and its like is none."""
    classes = {after.value for dot, after in pairwise(selector) if dot == "."}
    return classes | {token.value for token in selector if token.type == "hash"}


def _body(content: list[tinycss2.ast.Node]) -> str:
    return re.sub(r"\s*\n\s*", " ", tinycss2.serialize(content)).strip()


def _moved(sheet: str, folder: Path, static: Path) -> str:
    """The sheet with its relative addresses seen from where the bundle lies."""
    place = folder.relative_to(static).as_posix()
    return _RELATIVE.sub(lambda m: f'url("{posixpath.normpath(posixpath.join(place, m[2]))}")', sheet)
