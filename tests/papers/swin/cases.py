"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.swin import swin
from tests.contract import Case, images

# 14 x 6 patches: padded to 15 x 10, shifted by 2; then 7 x 3 in windows of 5 x 3
WINDOWS = {"dim": 24, "depths": (2, 2), "heads": (3, 3), "patch": (2, 7), "window": 5, "num_classes": 5}
WINDOWS |= {"image_size": (28, 42), "drop_path": 0.2}
MODELS = {
    "swin": Case(partial(swin, "swin_t", **WINDOWS), images),
    "swin v2": Case(partial(swin, "swinv2_t", **WINDOWS), images),
}

_FOUR = {"dim": 8, "window": 4, "image_size": (64, 96), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2)}
PYRAMIDS = {
    "swin": (partial(swin, "swin_t", **_FOUR), (8, 16, 32, 64)),
    "swin v2": (partial(swin, "swinv2_t", **_FOUR), (8, 16, 32, 64)),
}
