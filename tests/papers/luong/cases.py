"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.luong import Concat, General, Global, Monotonic, Translator, luong
from tests.contract import Case, sentences


def larger(name: str, **options) -> Translator:
    """At a width of 30 the paper's start, made for 1000, leaves next to nothing of the source in the logits."""
    model = luong(name, vocabulary=23, layers=2, dim=30, dropout=0.1, **options)
    for parameter in model.parameters():
        parameter.data *= 5
    return model


MODELS = {
    "luong": Case(partial(larger, "global_general"), sentences),
    "luong concat": Case(partial(larger, "global_general", attention=partial(Global, score=Concat)), sentences),
    "luong local-m": Case(
        partial(larger, "local_m_general", attention=partial(Monotonic, score=General, reach=1)), sentences
    ),
}
