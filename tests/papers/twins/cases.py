"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.twins import gsa, lsa, twins
from tests.contract import Case, tiles

PYRAMID = {"dims": (12, 18, 24, 30), "depths": (1, 2, 2, 1), "heads": (3, 3, 3, 3), "ratios": (4, 2, 2, 1)}
PYRAMID |= {"expansions": (2, 2, 3, 2), "windows": (3, 4, 3, (1, 2)), "num_classes": 5}
MODELS = {
    "twins pcpvt": Case(partial(twins, "twins_pcpvt_small", **PYRAMID), tiles),
    "twins svt": Case(partial(twins, "twins_svt_small", drop_path=0.5, **PYRAMID), tiles),
    "twins local": Case(partial(twins, "twins_svt_small", attentions=((lsa,), (gsa, lsa)) * 2, **PYRAMID), tiles),
}

_FOUR = {"dims": (8, 12, 16, 20), "depths": (1, 2, 1, 2), "heads": (1, 1, 2, 2)}
PYRAMIDS = {
    "twins pcpvt": (partial(twins, "twins_pcpvt_small", **_FOUR), (8, 12, 16, 20)),
    "twins svt": (partial(twins, "twins_svt_small", **_FOUR), (8, 12, 16, 20)),
}
