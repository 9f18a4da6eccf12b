"""Pictures that keep their place: each says how large it is before it is there, and waits until it is near."""

import base64
import io
import re
from functools import cache
from pathlib import Path

from PIL import Image

_TAG = re.compile(r"<img\b[^>]*?/?>")
_SOURCE = re.compile(r'\ssrc="([^"]*)"')


def size_pictures(page: str, folder: Path) -> str:
    """The page with the size of every picture; those below the first heading of a section are loaded when near.

    Args:
        page: the page's text.
        folder: where it lies, from which the pictures' addresses are seen.
    """
    fold = page.find("<h2")
    return _TAG.sub(lambda match: _sized(match, folder, lazy=-1 < fold < match.start()), page)


def _sized(match: re.Match[str], folder: Path, *, lazy: bool) -> str:
    tag, source = match[0], _SOURCE.search(match[0])
    size = _size(source[1], folder) if source and " width=" not in tag else None
    added = f' width="{size[0]}" height="{size[1]}"' if size else ""
    if lazy and " loading=" not in tag and source and not source[1].startswith("data:"):
        added += ' loading="lazy" decoding="async"'
    return f"<img{added}{tag.removeprefix('<img')}"


def _size(source: str, folder: Path) -> tuple[int, int] | None:
    """Width and height of a picture in its pixels, of what lies here or in the address itself."""
    if source.startswith("data:image/") and ";base64," in source:
        return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size
    if re.match(r"\w+:|/", source):
        return None
    return _size_of((folder / source.partition("?")[0]).resolve())


@cache
def _size_of(file: Path) -> tuple[int, int]:
    if file.suffix != ".svg":
        with Image.open(file) as picture:
            return picture.size
    (head,) = re.findall(r"<svg\b[^>]*>", file.read_text(encoding="utf-8"))[:1]
    given = [re.search(rf'\s{side}="([\d.]+)(?:px)?"', head) for side in ("width", "height")]
    box = re.search(r'\sviewBox="[\d.-]+[ ,]+[\d.-]+[ ,]+([\d.]+)[ ,]+([\d.]+)"', head)
    width, height = (side[1] for side in given) if all(given) else box.groups()  # type: ignore[index, union-attr]
    return round(float(width)), round(float(height))
