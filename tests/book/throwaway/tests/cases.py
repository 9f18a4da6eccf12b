"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.averaging.model import Classifier

from tests.contract import Case, images

MODELS = {
    "averaging": Case(
        partial(Classifier, 10, patch=2, image_size=(28, 42), num_classes=5), images, no_softmax="a mean, no softmax"
    )
}
