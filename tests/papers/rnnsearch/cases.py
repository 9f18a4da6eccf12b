"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.rnnsearch import FixedContext, ResetAfter, rnnsearch
from tests.contract import Case, sentences

SMALL = {"vocabulary": 23, "dim": 26, "embedding": 19, "alignment": 13, "maxout": 11, "start": None}
MODELS = {
    "rnnsearch": Case(partial(rnnsearch, "rnnsearch", **SMALL), sentences),
    "rnnsearch fixed context": Case(
        partial(rnnsearch, "rnnsearch", attention=FixedContext, **SMALL),
        sentences,
        no_softmax="a fixed context is no average",
    ),
    "rnnsearch reset after": Case(partial(rnnsearch, "rnnsearch", unit=ResetAfter, **SMALL), sentences),
}
