"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.tnt import tnt
from attention_notes.papers.vit import MeanPooling
from tests.contract import Case, images
from tests.papers.vit.cases import TINY

WORDS = {"word_dim": 10, "word_heads": 5, "word_hidden": 14, "word": (3, 5)}
MODELS = {
    "tnt": Case(partial(tnt, "tnt_s", drop_path=0.0, **TINY, **WORDS), images),
    "tnt pooled": Case(partial(tnt, "tnt_s", drop_path=0.3, pooling=MeanPooling, **TINY, **WORDS), images),
}
