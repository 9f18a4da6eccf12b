"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.wavenet import Stack
from tests.contract import Case, embedded

MODELS = {
    "wavenet": Case(partial(Stack, 30, skip=22, dilations=(1, 2, 4)), embedded, no_softmax="gates, not shares"),
    "wavenet three taps": Case(
        partial(Stack, 30, skip=22, dilations=(1, 3), kernel=3), embedded, no_softmax="gates, not shares"
    ),
}
