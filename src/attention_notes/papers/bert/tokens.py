"""How text becomes the tokens of BERT: WordPiece, as in the authors' ``tokenization.py`` for the uncased models.

Departures: special tokens that a text names are kept whole, and a word of more than 100 letters is unknown, both as in
transformers; the authors' limit is 200. Where transformers and the authors differ otherwise, this is the authors':
characters for private use are kept, and a sigma at the end of a word becomes its final form.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

SPECIAL = PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
LONGEST = 100  # letters of a word; a longer one is unknown
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ceaf\U0002f800-\U0002fa1f"
_NAMED = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")


class WordPiece:
    """Cuts each word into the longest pieces of a vocabulary, from left to right; a piece inside a word has ``##``.

    Case and accents are dropped. A word of which a part is in no piece is ``[UNK]`` as a whole.

    Args:
        vocabulary: the pieces in the order of their tokens; the five ``SPECIAL`` ones are among them.

    Raises:
        ValueError: if special tokens are missing.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self.pieces = [*vocabulary]
        self.token = {piece: i for i, piece in enumerate(self.pieces)}
        if missing := [name for name in SPECIAL if name not in self.token]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}: put them in front of the words")
        self.padding, self.unknown, self.cls, self.sep, self.mask = (self.token[name] for name in SPECIAL)

    def __len__(self) -> int:
        return len(self.pieces)

    @classmethod
    def read(cls, path: Path) -> "WordPiece":
        """The vocabulary of a ``vocab.txt``, one piece a line."""
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # pieces can be other ends of lines
        return cls(lines)

    def cut(self, text: str) -> list[str]:
        """The pieces of a text, without special tokens but those that it names, such as ``[MASK]``."""
        parts = _NAMED.split(text)
        return [piece for part in parts for piece in ([part] if part in SPECIAL else self._pieces_of(part))]

    def encode(self, texts: Sequence[str | tuple[str, str]]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Tokens and segments of texts, or of pairs: [CLS] A [SEP], or [CLS] A [SEP] B [SEP], padded to the longest.

        Nothing is cut off: a text can become longer than a model has positions.

        Raises:
            ValueError: if there are no texts, or a text in place of a list of texts.
        """
        if isinstance(texts, str):
            raise ValueError(f"{texts[:40]!r} is one text, and encode takes several: give it [text]")
        if not texts:
            raise ValueError("no texts: give one or more, of which each can be empty")
        rows = [self._row(*((text, None) if isinstance(text, str) else text)) for text in texts]
        padded = [torch.full((len(rows), max(len(tokens) for tokens, _ in rows)), fill) for fill in (self.padding, 0)]
        for i, row in enumerate(rows):
            for table, values in zip(padded, row, strict=True):
                table[i, : len(values)] = torch.tensor(values)
        return padded[0], padded[1]

    def _row(self, first: str, second: str | None) -> tuple[list[int], list[int]]:
        a = [CLS, *self.cut(first), SEP]
        b = [] if second is None else [*self.cut(second), SEP]
        return [self.token[piece] for piece in a + b], [0] * len(a) + [1] * len(b)

    def _pieces_of(self, text: str) -> list[str]:
        return [piece for word in words(text) for piece in self._split(word)]

    def _split(self, word: str) -> list[str]:
        pieces, start = list[str](), 0
        while start < len(word) <= LONGEST:
            marked = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if marked + word[start:e] in self.token), start)
            if end == start:
                return [UNKNOWN]
            pieces.append(marked + word[start:end])
            start = end
        return pieces or [UNKNOWN]


def words(text: str) -> list[str]:
    """Words and marks of a text in lower case, without accents; each ideograph is a word."""
    kept = "".join(map(_cleaned, text))
    spaced = re.sub(f"([{_IDEOGRAPHS}])", r" \1 ", kept)
    plain = "".join(c for c in unicodedata.normalize("NFD", spaced.lower()) if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _is_mark(c) else c for c in plain).split()


def _cleaned(c: str) -> str:
    """Nothing for a control character, also for those that Python takes for spaces; one space for any other space."""
    kind = unicodedata.category(c)
    if c in "\t\n\r" or kind == "Zs":
        return " "
    return "" if kind in ("Cc", "Cf") or c in "\0\ufffd" else c


def _is_mark(c: str) -> bool:
    return (c.isascii() and c.isprintable() and not c.isalnum() and c != " ") or unicodedata.category(c)[0] == "P"
