"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.word2vec import CBOW
from tests.contract import Case, sentences

# Its two inputs are neighbours and candidates; skip-gram is CBOW with one neighbour.
MODELS = {"word2vec cbow": Case(partial(CBOW, 23, dim=210), sentences, no_softmax="two tables and a mean")}
