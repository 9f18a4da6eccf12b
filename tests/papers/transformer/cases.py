"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.transformer import PreNorm, transformer
from tests.contract import Case, sentences

SMALL = {"layers": 2, "dim": 30, "heads": 3, "hidden": 44, "dropout": 0.1}
MODELS = {
    "transformer": Case(partial(transformer, "base", vocabulary=23, **SMALL), sentences),
    "transformer pre-norm": Case(partial(transformer, "base", vocabulary=23, residual=PreNorm, **SMALL), sentences),
}
