"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.deit import deit
from tests.contract import Case, images
from tests.papers.vit.cases import TINY

MODELS = {
    "deit": Case(partial(deit, "Ti/16", drop_path=0.0, **TINY), images),
    "deit distilled": Case(partial(deit, "Ti/16 distilled", drop_path=0.3, **TINY), images),
}
