"""Small models for the suite over all models."""

from attention_notes.papers.seq2seq import Seq2Seq, seq2seq
from tests.contract import Case, sentences

SMALL = {"layers": 2, "dim": 13, "hidden": 17, "source_vocabulary": 23, "target_vocabulary": 23}


def larger(**options) -> Seq2Seq:
    """At a width of 17 the paper's start, made for 1000, leaves next to nothing of the source in the logits."""
    model = seq2seq("wmt14", **SMALL, **options)
    for parameter in model.parameters():
        parameter.data *= 8
    return model


MODELS = {"seq2seq": Case(larger, sentences, no_softmax="the decoder looks at a state, and at no token")}
