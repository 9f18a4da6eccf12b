"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.patchification import patchification
from tests.contract import Case, images
from tests.papers.vit.cases import TINY

FINE = TINY | {"patch": (2, 1), "drop_path": 0.0}
MODELS = {
    "patchification": Case(partial(patchification, "B/1 64", **FINE), images),
    "patchification extended": Case(
        partial(patchification, "B/16 128", **TINY | {"patch": 14}, extend=2, drop_path=0.3), images
    ),
}
