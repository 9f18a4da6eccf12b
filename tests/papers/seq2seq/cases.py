"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.seq2seq import seq2seq
from tests.contract import Case, sentences

SMALL = {"layers": 2, "dim": 13, "hidden": 17, "source_vocabulary": 23, "target_vocabulary": 23}
MODELS = {
    "seq2seq": Case(
        partial(seq2seq, "wmt14", **SMALL), sentences, no_softmax="the decoder looks at a state, and at no token"
    ),
}
