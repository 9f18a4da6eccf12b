"""The theme's icons, drawn into the page: the script that would draw them at the reader's weighs a megabyte and a half.

They are Font Awesome Free (https://fontawesome.com, CC BY 4.0), taken from the theme's own copy.
"""

import re
from functools import cache
from pathlib import Path

import pydata_sphinx_theme
from sphinx.errors import ExtensionError

_SCRIPT = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static/scripts/fontawesome.js"
_EMPTY = re.compile(r'<(i|span) class="([^"]*\bfa-[^"]*)"([^>]*)></\1>')
_BRANDS = {"fab", "fa-brands"}
_SOLID = {"fas", "fa", "fa-solid"}
_SIZES = {"fa-lg", "fa-sm", "fa-xs", "fa-fw"}


def draw_icons(page: str) -> str:
    """The page with every empty icon element replaced by its drawing."""
    return _EMPTY.sub(_drawn, page)


def _drawn(match: re.Match[str]) -> str:
    names = match[2].split()
    icon = next((name for name in names if name.startswith("fa-") and name not in _BRANDS | _SOLID | _SIZES), None)
    if icon is None:
        return match[0]
    kept = [name for name in names if name not in _BRANDS | _SOLID]
    width, height, path = _icon(icon.removeprefix("fa-"), brand=bool(_BRANDS & {*names}))
    told = re.sub(r'\s*\btitle="[^"]*"', "", match[3])  # a drawing that is hidden from listeners has no name
    return (
        f'<svg class="{" ".join(["svg-inline--fa", *kept])}"{told} aria-hidden="true" focusable="false" '
        f'viewBox="0 0 {width} {height}"><path fill="currentColor" d="{path}"/></svg>'
    )


@cache
def _icon(name: str, *, brand: bool) -> tuple[str, str, str]:
    """Width, height and outline of an icon. In the theme's script the brands stand first and the solid ones last."""
    found = re.findall(rf'[{{,]"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]', _SCRIPT.read_text("utf-8"))
    if not found:
        raise ExtensionError(f"the theme's copy of Font Awesome has no icon {name!r}")
    width, height, path = found[0 if brand else -1]
    return width, height, path
