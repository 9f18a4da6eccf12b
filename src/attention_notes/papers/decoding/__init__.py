"""The Curious Case of Neural Text Degeneration, Holtzman et al. 2020, arXiv 1904.09751; and the search before it."""

from attention_notes.papers.decoding.model import (
    Beams,
    at_this_length,
    beam_search,
    gnmt,
    log_probabilities,
    no_better_possible,
    nucleus,
    power,
    sample,
    temperature,
    top_k,
    when_full,
)

__all__ = [
    "Beams",
    "at_this_length",
    "beam_search",
    "gnmt",
    "log_probabilities",
    "no_better_possible",
    "nucleus",
    "power",
    "sample",
    "temperature",
    "top_k",
    "when_full",
]
