"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.augreg import augreg
from tests.contract import Case, images
from tests.papers.vit.cases import TINY

MODELS = {
    "augreg": Case(partial(augreg, "Ti/16", **TINY), images),
    "augreg regularised": Case(partial(augreg, "B/16 i1k", **TINY), images),
}
