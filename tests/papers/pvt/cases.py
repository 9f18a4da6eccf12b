"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.pvt import pvt
from tests.contract import Case, images, tiles

PYRAMID = {"dims": (12, 18, 24, 30), "depths": (1, 1, 1, 1), "heads": (3, 3, 3, 3), "ratios": (3, 2, 2, 1)}
PYRAMID |= {"expansions": (2, 2, 3, 2), "num_classes": 5}
MODELS = {
    "pvt": Case(partial(pvt, "pvt_tiny", image_size=(32, 96), **PYRAMID), tiles),
    "pvt v2": Case(partial(pvt, "pvt_v2_b0", drop_path=0.5, **PYRAMID), images),
    "pvt v2 linear": Case(
        partial(pvt, "pvt_v2_b2_li", **PYRAMID), images, no_traced_onnx="it writes no pooling of unequal parts"
    ),
}

_FOUR = {"dims": (8, 12, 16, 20), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2)}
PYRAMIDS = {
    "pvt": (partial(pvt, "pvt_tiny", image_size=(64, 96), **_FOUR), (8, 12, 16, 20)),
    "pvt v2": (partial(pvt, "pvt_v2_b0", **_FOUR), (8, 12, 16, 20)),
    "pvt v2 linear": (partial(pvt, "pvt_v2_b2_li", **_FOUR), (8, 12, 16, 20)),
}
