"""Dates as people write them, in many languages and scripts, from Unicode's CLDR; and texts as tokens."""

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

# 33 languages in 12 scripts; Egypt, Bangladesh, Iran and Maharashtra write digits of their own.
# fmt: off
DATE_LOCALES = (
    "ar_EG", "bg", "bn", "cs", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "hy", "id", "it", "ja", "ka",
    "ko", "lt", "mr", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
)
# fmt: on
_CLDR_FORMATS = ("full", "long", "medium", "short", "yMd", "yMEd", "yMMMEd")
_ZEROS = {"latn": "0", "arab": "٠", "arabext": "۰", "deva": "०", "beng": "০"}  # the digits that follow stand in order
_KEYS: dict[str, Callable[[date], int]] = {
    "y": lambda day: day.year,
    "M": lambda day: day.month,
    "d": lambda day: day.day,
    "E": lambda day: day.weekday(),
    "G": lambda day: 0,  # the era: no date here is before Christ
}


@dataclass(frozen=True)
class DateStyle:
    """One way to write a date: a language, one of its formats in Unicode's CLDR, and the means to write with it.

    ``parts`` are the pieces of the format in order: fixed text, or the letter of a field (``y`` year, ``M`` month,
    ``d`` day, ``E`` weekday, ``G`` era) and its texts.
    """

    locale: str
    language: str
    script: str
    name: str
    pattern: str
    parts: tuple[str | tuple[str, dict[int, str]], ...]

    def pieces(self, day: date) -> list[str]:
        """The text of a day, piece by piece; the pieces stand in the order of ``parts``."""
        return [part if isinstance(part, str) else part[1][_KEYS[part[0]](day)] for part in self.parts]

    def write(self, day: date) -> str:
        """The text of a day, as ``samedi 9 mai 1998``."""
        return "".join(self.pieces(day))

    def where(self, day: date) -> dict[str, slice]:
        """Where each field stands in that text, by its letter."""
        pieces = self.pieces(day)
        ends = [*accumulate(map(len, pieces))]
        fields = zip(self.parts, pieces, ends, strict=True)
        return {part[0]: slice(end - len(text), end) for part, text, end in fields if not isinstance(part, str)}


def date_styles(locales: Sequence[str] = DATE_LOCALES, *, years: range = range(1900, 2100)) -> list[DateStyle]:
    """The date formats of some languages, as CLDR has them (through Babel), each pattern once; Gregorian calendar.

    Digits are those that CLDR gives the locale: Egypt, Iran, Bangladesh and Maharashtra write their own.

    Raises:
        ValueError: if a locale's digits are not among those known here.
    """
    from babel import Locale

    styles = []
    for code in locales:
        locale = Locale.parse(code)
        if (digits := locale.default_numbering_system) not in _ZEROS:
            raise ValueError(f"{code} writes its digits as {digits!r}; known: {', '.join(_ZEROS)}")
        known = {**locale.datetime_skeletons, **{name: locale.date_formats[name] for name in _CLDR_FORMATS[:4]}}
        once = {known[name].pattern: name for name in reversed(_CLDR_FORMATS) if name in known}
        styles += [_date_style(locale, name, known[name], years) for name in reversed(once.values())]
    return styles


def _date_style(locale: Any, name: str, pattern: Any, years: range) -> DateStyle:
    """Write every field that the pattern names once, with Babel: thousands of texts are then only joined."""
    from babel.dates import DateTimeFormat

    zero = ord(_ZEROS[locale.default_numbering_system])
    digits = {ord("0") + i: chr(zero + i) for i in range(10)}
    parts: list[str | tuple[str, dict[int, str]]] = []
    for i, piece in enumerate(re.split(r"%\((\w+)\)s", pattern.format)):
        if i % 2:
            letter = {"L": "M", "c": "E"}.get(piece[0], piece[0])
            days = [date(year, 1, 1) for year in years] if letter == "y" else all_days(range(2000, 2001))
            texts = {_KEYS[letter](day): DateTimeFormat(day, locale)[piece].translate(digits) for day in days}
            parts.append((letter, texts))
        elif piece:
            parts.append(piece.replace("%%", "%"))
    return DateStyle(str(locale), locale.english_name, _script(locale), name, pattern.pattern, tuple(parts))


def _script(locale: Any) -> str:
    """The script of a locale's weekdays, by the name of their first letter."""
    name = unicodedata.name(locale.days["format"]["wide"][5][0]).split()[0].split("-")[0]
    return {"CJK": "Han"}.get(name, name.capitalize())


def unambiguous(styles: Sequence[DateStyle]) -> tuple[list[DateStyle], list[DateStyle]]:
    """The styles that can be read without being told where a text is from, and those that cannot.

    A style is left out when one of its texts is another day in any of the styles, itself included: ``9/5/98`` is a day
    in May or in September, and of 1998 or 1898.
    """
    readings: dict[str, set[date]] = defaultdict(set)
    writers: dict[str, set[int]] = defaultdict(set)
    for day in [*all_days(range(1907, 1908)), *all_days(range(2007, 2008))]:
        for i, style in enumerate(styles):
            readings[text := style.write(day)].add(day)
            writers[text].add(i)
    out = set().union(*(writers[text] for text, days in readings.items() if len(days) > 1))
    return [s for i, s in enumerate(styles) if i not in out], [s for i, s in enumerate(styles) if i in out]


def all_days(years: range) -> list[date]:
    """Every day of those years."""
    first = date(years[0], 1, 1)
    return [first + timedelta(n) for n in range((date(years[-1], 12, 31) - first).days + 1)]


def sample(styles: Sequence[DateStyle], days: Sequence[date], count: int, *, seed: int) -> list[tuple[DateStyle, date]]:
    """Draw ``count`` dates to write: a language, one of its styles, a day, each with equal chances."""
    draw, by_language = random.Random(seed), defaultdict(list)
    for style in styles:
        by_language[style.locale].append(style)
    languages = list(by_language.values())
    return [(draw.choice(draw.choice(languages)), draw.choice(days)) for _ in range(count)]


class Characters:
    """A vocabulary of single characters behind three special tokens, the same for what is read and what is written."""

    padding, start, end = 0, 1, 2

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters = sorted(set().union(*texts))
        self._tokens = np.full(0x110000, -1)
        self._tokens[[ord(c) for c in self.characters]] = np.arange(3, len(self))
        self._tokens[0] = self.padding  # numpy fills short texts with zeros

    def __len__(self) -> int:
        return 3 + len(self.characters)

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "b n"]:
        """One row of tokens for each text, padded on the right to the longest.

        Raises:
            ValueError: if a text has a character that the vocabulary lacks.
        """
        codes = np.array(texts).view(np.uint32).reshape(len(texts), -1)
        tokens = self._tokens[codes]
        if (tokens < 0).any():
            stranger = chr(codes[tokens < 0][0])
            raise ValueError(f"{stranger!r} is not among the {len(self.characters)} characters of the vocabulary")
        return torch.from_numpy(tokens)

    def decode(self, tokens: Int[Tensor, "b n"]) -> list[str]:
        """The text of each row, up to its end token."""
        names = ["", "", "", *self.characters]
        rows = [row[: row.index(self.end)] if self.end in row else row for row in tokens.tolist()]
        return ["".join([names[token] for token in row]) for row in rows]


def bucketed(
    source: Int[Tensor, "k m"], target: Int[Tensor, "k n"], *, size: int, seed: int, pool: int = 16, padding: int = 0
) -> list[tuple[Int[Tensor, "b _"], Int[Tensor, "b n"]]]:
    """Batches of ``size`` pairs whose sources are of like length, so that little work goes into padding.

    Rows are sorted by length within pools of ``pool`` batches only, and the batches of a pool are shuffled: sorting
    them all would show the model one kind of text at a time.
    """
    draw, lengths = random.Random(seed), (source != padding).sum(1)
    batches = []
    for rows in torch.arange(len(source)).split(size * pool):
        cut = list(rows[lengths[rows].argsort(stable=True)].split(size))
        draw.shuffle(cut)
        batches += [(source[batch, : int(lengths[batch].max())], target[batch]) for batch in cut]
    return batches
