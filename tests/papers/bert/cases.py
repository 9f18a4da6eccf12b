"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.bert import bert
from tests.contract import Case, texts

SMALL = {"layers": 2, "dim": 30, "heads": 3, "hidden": 44, "length": 19}
MODELS = {"bert": Case(partial(bert, "base", vocabulary=23, **SMALL), texts)}
