"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.luong import Concat, General, Global, Monotonic, luong
from tests.contract import Case, sentences

SMALL = {"vocabulary": 23, "layers": 2, "dim": 30, "dropout": 0.1}
MODELS = {
    "luong": Case(partial(luong, "global_general", **SMALL), sentences),
    "luong concat": Case(partial(luong, "global_general", attention=partial(Global, score=Concat), **SMALL), sentences),
    "luong local-m": Case(
        partial(luong, "local_m_general", attention=partial(Monotonic, score=General, reach=3), **SMALL), sentences
    ),
}
