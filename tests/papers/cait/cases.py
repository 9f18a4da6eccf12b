"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.cait import cait
from tests.contract import Case, images
from tests.papers.vit.cases import TINY

MODELS = {
    "cait": Case(partial(cait, "XXS24", layer_scale=0.5, **TINY), images),
    "cait dropout": Case(partial(cait, "XXS24", dropout=0.1, drop_path=0.3, class_depth=1, **TINY), images),
}
