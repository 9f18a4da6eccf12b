"""A small model for the suite over all models."""

from functools import partial

from attention_notes.papers.igpt import igpt
from tests.contract import Case, texts

SMALL = {"colours": 23, "context": 19, "layers": 2, "dim": 30, "heads": 3}
MODELS = {"igpt": Case(partial(igpt, "iGPT-S", **SMALL), texts)}
