"""The card of a page: the picture that stands beside a link to it. Title, what it is about, and an attention map."""

import hashlib
import math
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIZE = (1200, 630)
_GROUND, _COLOUR, _INK, _FAINT = (22, 27, 34), (47, 143, 208), "#f0f3f6", "#9aa7b4"
_TOKENS, _CELL = 9, 34  # of the map: tokens on a side, and pixels of a cell with its gap


def card(folder: Path, book: str, name: str, title: str, said: str) -> str:
    """Draw a page's card into ``folder``, unless it is there, and return its file's name."""
    mark = hashlib.sha256("\0".join([book, title, said, Path(__file__).read_text(encoding="utf-8")]).encode())
    file = folder / f"{name}-{mark.hexdigest()[:8]}.png"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{name}-????????.png"):
            old.unlink()
        drawn(book, title, said).save(file, optimize=True)
    return file.name


def drawn(book: str, title: str, said: str) -> Image.Image:
    """The card itself."""
    picture = Image.new("RGB", SIZE, _GROUND)
    pen = ImageDraw.Draw(picture)
    _map(pen, SIZE[0] - 80 - _TOKENS * _CELL, 80)
    if title not in ("", book):
        pen.text((80, 76), book, font=_font(30), fill=_FAINT)
    y = 140
    for line in textwrap.wrap(title or book, 19)[:3]:
        pen.text((80, y), line, font=_font(62, "-Bold"), fill=_INK)
        y += 76
    for line in textwrap.wrap(said or "Paper notes on attention that run.", 62)[:3]:
        pen.text((80, max(y, 430) + 12), line, font=_font(30), fill=_FAINT)
        y = max(y, 430) + 42
    return picture


def _map(pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """A softmax over tokens that look at their neighbours and at one token far away, row by row."""
    for i in range(_TOKENS):
        scores = [-0.5 * (i - j) ** 2 + 2.2 * (j == (3 * i + 5) % _TOKENS) for j in range(_TOKENS)]
        whole = sum(map(math.exp, scores))
        for j, score in enumerate(scores):
            share = min(0.1 + 1.3 * math.exp(score) / whole, 1)
            colour = tuple(round(share * c + (1 - share) * g) for c, g in zip(_COLOUR, _GROUND, strict=True))
            x, y = left + j * _CELL, top + i * _CELL
            pen.rounded_rectangle((x, y, x + _CELL - 5, y + _CELL - 5), 4, fill=colour)


def _font(size: int, style: str = "") -> ImageFont.FreeTypeFont:
    import matplotlib  # only where a card is drawn, for a build that changes nothing is quicker without

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans{style}.ttf", size)
