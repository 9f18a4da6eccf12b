"""Small models for the suite over all models."""

from functools import partial

from attention_notes.papers.resnet import ResNet, basic, bottleneck, resnet
from tests.contract import Case, images

NO_SOFTMAX = "convolutions only"
MODELS = {
    "resnet": Case(
        partial(ResNet, basic, depths=(1, 2), dilations=(1, 1), width=6, num_classes=5), images, no_softmax=NO_SOFTMAX
    ),
    "resnet bottleneck": Case(
        partial(ResNet, bottleneck, depths=(2, 1), dilations=(1, 1), width=6, num_classes=5),
        images,
        no_softmax=NO_SOFTMAX,
    ),
}
PYRAMIDS = {"resnet": (partial(resnet, "resnet18", width=8), (8, 16, 32, 64))}
