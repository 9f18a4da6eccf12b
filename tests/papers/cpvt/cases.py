"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.cpvt import cpvt
from tests.contract import Case, images

TINY = {"dim": 30, "depth": 2, "heads": 3, "hidden": 44, "patch": (7, 14), "num_classes": 5}
MODELS = {
    "cpvt": Case(partial(cpvt, "Ti", **TINY), images),
    "cpvt pooled": Case(partial(cpvt, "Ti GAP", after=(0, 1), dropout=0.1, **TINY), images),
}
