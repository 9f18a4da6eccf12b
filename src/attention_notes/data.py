"""Real inputs that need no download: they ship with a library or are generated from one."""

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def photograph(name: str = "china") -> Float[Tensor, "3 y x"]:
    """One of scikit-learn's two photographs, ``china`` (a temple) or ``flower``, 427 x 640, colours from 0 to 1.

    Raises:
        ValueError: if there is no photograph of that name.
    """
    if name not in ("china", "flower"):
        raise ValueError(f"unknown photograph {name!r}; known: china, flower")
    from sklearn.datasets import load_sample_image

    return torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).movedim(-1, 0) / 255


def sentences() -> list[str]:
    """Some 4,000 sentences of real English: the reference manual that every Python carries, each sentence once."""
    from pydoc_data.topics import topics

    paragraphs = [" ".join(p.split()) for topic in topics.values() for p in re.split(r"\n\s*\n", topic)]
    return list(dict.fromkeys(s for p in paragraphs for s in re.split(r"(?<=[.;:?!])\s+", p) if s))


def word_vectors(
    text: list[str], *, width: int = 64, window: int = 3, at_least: int = 10
) -> dict[str, Float[Tensor, "{width}"]]:
    """Vectors for the words of a text, from the company that they keep: no training, only counting.

    How much more often than by chance two words stand within ``window`` words of one another (positive pointwise mutual
    information), compressed to ``width`` numbers a word by keeping the largest singular values (Levy and Goldberg 2014,
    section 4.2, unshifted, with the roots of the singular values).

    Args:
        text: sentences; letters count, case does not.
        width: length of a vector.
        window: how many words to either side are company.
        at_least: words that are rarer are left out, and so are those of one or two letters.

    Returns:
        The vectors by word, the most frequent word first.
    """
    spoken = [[w for w in re.findall("[a-z]+", sentence.lower()) if len(w) > 2] for sentence in text]
    kept = [w for w, n in Counter(w for sentence in spoken for w in sentence).most_common() if n >= at_least]
    index = {word: i for i, word in enumerate(kept)}
    heard = [[index[w] for w in sentence if w in index] for sentence in spoken]
    pairs = [pair for ids in heard for gap in range(1, window + 1) for pair in zip(ids[gap:], ids, strict=False)]
    a, b = torch.tensor(pairs).T
    near = torch.bincount(a * len(kept) + b, minlength=len(kept) ** 2).unflatten(0, (len(kept), -1)).double()
    near = near + near.T
    surprise = (near * near.sum() / near.sum(0) / near.sum(1, keepdim=True)).nan_to_num().clamp(min=1).log()
    values, directions = torch.linalg.eigh(surprise)
    largest = values.abs().topk(min(width, len(kept))).indices
    vectors = directions[:, largest] * values[largest].abs().sqrt()
    return dict(zip(kept, vectors.float(), strict=True))


def digits(
    *, held_out: int = 4
) -> tuple[tuple[Float[Tensor, "b 1 8 8"], Int[Tensor, " b"]], tuple[Float[Tensor, "k 1 8 8"], Int[Tensor, " k"]]]:
    """1,797 scanned digits of scikit-learn, 8 x 8 pixels from 0 to 1: images and labels to train on, then to test on.

    Of each digit, every ``held_out``-th image is for the test, so that both parts have all digits in the same shares.
    Both parts come from the same 13 writers (Alpaydin & Kaynak 1998): the test is about new images, not new hands.

    Raises:
        ValueError: if ``held_out`` is below two: nothing would be left to train on.
    """
    if held_out < 2:
        raise ValueError(f"held_out={held_out} leaves no image to train on; choose 2 or more")
    from sklearn.datasets import load_digits

    raw = load_digits()
    images, labels = torch.from_numpy(raw.images).float()[:, None] / 16, torch.from_numpy(raw.target).long()
    seen_before = torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]
    test = seen_before % held_out == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


def shifted(images: Float[Tensor, "b ch y x"], *, pixels: int = 1) -> Float[Tensor, "s b ch y x"]:
    """Every image moved by up to ``pixels`` in both directions, zeros moving in: ``s = (2 pixels + 1)^2`` copies."""
    y, x = images.shape[-2:]
    wide = torch.nn.functional.pad(images, (pixels,) * 4)
    moves = range(2 * pixels + 1)
    return torch.stack([wide[..., down : down + y, right : right + x] for down in moves for right in moves])


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


def dates(styles: Sequence[DateStyle], days: Sequence[date], count: int, *, seed: int) -> list[tuple[DateStyle, date]]:
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
