"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.scaling_vit import scaling_vit
from tests.contract import Case, images
from tests.papers.vit.cases import TINY

MODELS = {
    "scaling_vit": Case(partial(scaling_vit, "G/14", **TINY), images),
    "scaling_vit 22B": Case(partial(scaling_vit, "22B/14", **TINY), images),
    "scaling_vit dropout": Case(
        partial(scaling_vit, "22B/14", dropout=0.1, drop_path=0.3, layer_scale=0.5, **TINY), images
    ),
}
