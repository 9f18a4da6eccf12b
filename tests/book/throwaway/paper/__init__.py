"""Averaging Is Nearly Enough."""

from attention_notes.papers.averaging.model import VARIANTS, Averaging, averaging

__all__ = ["VARIANTS", "Averaging", "averaging"]
