"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.vit import MeanPooling, vit
from tests.contract import Case, images

TINY = {"dim": 30, "depth": 2, "heads": 3, "hidden": 44, "patch": (7, 14), "num_classes": 5, "image_size": (28, 42)}
MODELS = {
    "vit": Case(partial(vit, "Ti/16", **TINY), images),
    "vit pooled": Case(partial(vit, "Ti/16", pooling=MeanPooling, dropout=0.1, **TINY), images),
}
