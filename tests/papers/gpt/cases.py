"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.gpt import gpt
from tests.contract import Case, texts

SMALL = {"vocabulary": 23, "context": 19, "layers": 2, "dim": 30, "heads": 3}
MODELS = {
    "gpt": Case(partial(gpt, "GPT", **SMALL), texts),
    "gpt 2": Case(partial(gpt, "GPT-2", **SMALL), texts),
}
