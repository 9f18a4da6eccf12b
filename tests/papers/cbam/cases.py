"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.cbam import cbam
from tests.contract import Case, images

MODELS = {
    "cbam": Case(
        partial(cbam, "cbam_resnet18", depths=(1, 1, 1, 1), width=16, num_classes=5),
        images,
        no_softmax="gates, not shares",
    )
}
