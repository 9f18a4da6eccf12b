"""What the chapter is run on: a text as bytes, what counting predicts of it, and dates to translate."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attention_notes.chapters.data import sentences
from attention_notes.chapters.data.dates import DateStyle


def manual() -> tuple[bytes, bytes]:
    """Python's manual as bytes, a line for each sentence: to train on, and every tenth sentence held out."""
    lines = sentences()
    held_out = lines[::10]
    seen = [line for i, line in enumerate(lines) if i % 10]
    return "\n".join(seen).encode(), "\n".join(held_out).encode()


def as_tokens(text: bytes) -> Int[Tensor, " n"]:
    """A byte is a token: 256 of them write any text."""
    return torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))


def ngram_bits(seen: bytes, unseen: bytes, *, order: int) -> list[float]:
    """Bits per byte of a text under models of 1, 2, ... ``order`` bytes that count in another (Witten and Bell 1991).

    After a history h with n(h) bytes of t(h) kinds, byte c has (n(hc) + t(h) P(c | shorter h)) / (n(h) + t(h)), and the
    shortest history leaves all 256 bytes equally likely.

    Raises:
        ValueError: if ``order`` is not from 1 to 7: a longer history does not fit into 64 bits; by numpy, if one of the
            texts is empty or ``seen`` has less than ``order`` bytes.
    """
    if not 1 <= order <= 7:
        raise ValueError(f"order={order}: from 1 to 7, so that a byte and its history fit into 64 bits")
    chances, found = np.full(len(unseen), 1 / 256), []
    for n in range(1, order + 1):
        grams, counts = np.unique(_coded(seen, n), return_counts=True)
        histories, first = np.unique(grams >> 8, return_index=True)
        kinds, totals = np.diff([*first, len(grams)]), np.add.reduceat(counts, first)
        asked = _coded(b"\n" * (n - 1) + unseen, n)  # a sentence begins after the end of another
        t, total = _looked_up(asked >> 8, histories, kinds), _looked_up(asked >> 8, histories, totals)
        mixed = (_looked_up(asked, grams, counts) + t * chances) / np.maximum(total + t, 1)
        chances = np.where(total > 0, mixed, chances)
        found.append(float(-np.log2(chances).mean()))
    return found


def _coded(text: bytes, n: int) -> np.ndarray:
    """Each stretch of ``n`` bytes as one number."""
    raw = np.frombuffer(text, np.uint8).astype(np.int64)
    stretches = np.lib.stride_tricks.sliding_window_view(raw, n)
    return stretches @ (256 ** np.arange(n - 1, -1, -1, dtype=np.int64))


def _looked_up(asked: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each number that is known, zero for others."""
    at = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where(known[at] == asked, values[at], 0)


def translations(pairs: Sequence[tuple[DateStyle, date]]) -> list[str]:
    """Each date in its style, ``>``, and the same as ``1998-05-09``; spaces before the date make all equally long."""
    sources = [style.write(day) for style, day in pairs]
    width = max(map(len, sources))
    return [f"{source:>{width}}>{day.isoformat()}" for source, (_, day) in zip(sources, pairs, strict=True)]
